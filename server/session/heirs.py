"""What becomes of a session whose producer is gone: an end that says so, or an heir.

Any node with a viewer, or any node's sweeper, finds out; one wins. An heir goes on from the text so far
(`continue`) or begins anew (`restart`), as the model's route says; never for ever.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from server.counts import COUNTS
from server.errors import UnknownModel
from server.events import Content, Cursor, Error, Reasoning, decode, encode
from server.session.answers import Flag
from server.session.log import Log
from server.session.producers import Producers
from server.session.state import Spec
from server.session.store import FAR, Identity, Store
from server.trail import SESSION
from server.upstream import Models, Request, Takeover, Upstream

log = logging.getLogger(__name__)

HEIRS = 3
"""Takeovers of one session: a request that ends each node it meets must not meet them all."""

PRODUCER_LOST = encode(
    Error(code="producer_lost", message="The node that ran this session is gone.", retryable=True)
)


class Heirs:
    """Takes over for one node from producers whose lease, of `lease` seconds, has lapsed."""

    def __init__(
        self, node: str, models: Models, store: Store, producers: Producers, lease: float
    ) -> None:
        self._here_since = asyncio.get_running_loop().time()
        self._lease = lease
        self._node = node
        self._models = models
        self._store = store
        self._producers = producers

    async def succeed(self, sid: str) -> Flag:
        """End a session whose lease has lapsed (OK), or go on with it here (HELD); CLOSED or GONE."""
        if self._early(sid):
            return Flag.HELD
        SESSION.set(sid)
        meta = (await self._store.peek(sid)).meta
        spec = msgspec.json.decode(meta.spec, type=Spec) if meta and not meta.gone else None
        flag = await self._inherit(sid, meta.digest, spec) if meta and spec else None
        if flag is None:
            flag = await self._store.claim(sid, self._node, PRODUCER_LOST, self.far, spec)
            COUNTS.takeovers["ended"] += flag is Flag.OK
        mine = flag in (Flag.OK, Flag.HELD)  # else somebody was faster, or it is forgotten: no news
        log.log(logging.INFO if mine else logging.DEBUG, "takeover of a lapsed session: %s", flag)
        return flag

    @property
    def far(self) -> float:
        """Seconds that nobody's lease has left, and that what is lost for good is remembered."""
        return FAR * self._lease

    def _early(self, sid: str) -> bool:
        """Say whether that Redis has not been here for a lease yet.

        While it was away no lease could be renewed: its producer, too, has yet to find it again.
        """
        here = asyncio.get_running_loop().time() - self._here_since
        return min(here, self._store.runner.back_for(sid)) < self._lease

    async def _inherit(self, sid: str, digest: str, spec: Spec) -> Flag | None:
        """Become the heir if the session may have one; None if it has to end."""
        going = await self._going(sid, spec)
        if going is None:
            return None
        who = Identity(sid, f"{self._node}:{secrets.token_hex(4)}", spec, digest)
        flag, epoch = await self._producers.inherit(who, *going, heirs=HEIRS)
        if flag is Flag.OK:
            COUNTS.takeovers["inherited"] += 1
            log.warning("session %s goes on here, epoch %d: %s", sid, epoch, spec.takeover)
        if flag in (Flag.OK, Flag.MOVED):  # MOVED: it has grown meanwhile; the next look reads it again
            return Flag.HELD
        return None if flag in (Flag.SPENT, Flag.LOST) else flag

    async def _going(self, sid: str, spec: Spec) -> tuple[Upstream, Request, Cursor | None] | None:
        """Return the upstream to go on with, what to ask it, and the entry behind which that goes."""
        if spec.request is None or spec.takeover is Takeover.ERROR:
            return None
        try:
            upstream, request = self._models.resolve(spec.request)
        except UnknownModel:
            return None
        if spec.takeover is Takeover.RESTART:
            return upstream, request, None
        # The dense prefix: what lies beyond a hole is cut off, and was shown to nobody.
        whole = Log((await self._store.read(sid)).entries)
        text = so_far(whole.lines) if whole.entries else None
        return None if text is None else (upstream, replace(request, continued=text), whole.top)


def so_far(lines: Sequence[bytes]) -> str | None:
    """Return the text that an upstream can go on from; None if there is more than that to go on from."""
    events = [decode(line) for line in lines]
    text = "".join(event.content for event in events if isinstance(event, Content))
    plain = all(isinstance(event, Content | Reasoning) for event in events)
    return text if plain and bool(text) == bool(events) else None
