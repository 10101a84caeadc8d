"""Keeps one tail in step with Redis: reads on when the doorbell rings, and looks by a timer besides.

A read begins at the last entry the tail holds, inclusive: if that entry is not there any more, Redis
was rolled back. Its producer may be healing that, so there is some patience before the tail is read
anew and viewers who hold what no longer exists are reset.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from server.errors import StoreUnavailable
from server.events import Cursor
from server.session.answers import Meta, Read, Turn
from server.session.commands import PAGE, parse_read, read_commands
from server.session.jobs import Carrier
from server.session.link import Command, Reply
from server.session.log import Absorbed, Entry, Log
from server.session.state import Spec
from server.session.store import Store
from server.session.tail import Tail
from server.session.viewer import Ending

RECHECK = 1.0
HEALING = 2.0


class Follower:
    """One tail's reader; `learned(follower)` is called after every read, with `meta` fresh.

    While `heal` is set, a producer of this node answers for the log: trouble is reported to it
    (`heal`), so is every read (`learned`), and the tail, which is that producer's memory, is never
    read anew behind its back. `gone` says that the session is not there any more.
    """

    def __init__(
        self,
        tail: Tail,
        store: Store,
        redis: Carrier,
        learned: Callable[["Follower"], None],
        patience: float,
    ) -> None:
        self.tail = tail
        self.key = tail.sid
        self.meta: Meta | None = None
        self.gone = False
        self.spec: Spec | None = None
        self.heal: Callable[[], None] | None = None
        self.learned: Callable[[], None] | None = None
        self.idle_since = self._now()
        self.due = self.seen = 0.0
        self._asked_at = 0.0
        self._store = store
        self._redis = redis
        self._learned = learned
        self._patience = patience
        self._queued = self._again = False
        self._asked = Cursor(0, 0)
        self._suspect_since: float | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._regating: asyncio.Task[None] | None = None

    def ring(self) -> None:
        """Read on, soon."""
        if self._queued:
            self._again = True
        else:
            self._queued = True
            self._redis.submit(self)

    def commands(self) -> Sequence[Command]:
        """Ask for what comes from the tail's last entry on."""
        self._again = False
        self._asked_at = self._now()
        self._asked = self.tail.log.top
        return read_commands(self.tail.sid, self._asked)

    def settle(self, replies: Sequence[Reply]) -> None:
        """Take a page."""
        self._queued = False
        try:
            read = parse_read(self.key, replies, self._store.codec)
        except StoreUnavailable:
            return self.lost()
        self.seen = self._asked_at
        self.take(read)
        if self._again or len(read.entries) == PAGE:
            self.ring()
        return None

    def lost(self) -> None:
        """Leave it to the timer to ask again."""
        self._queued = False
        self.due = self._now() + 0.1

    def take(self, read: Read) -> None:
        """Bring the tail in step with what was read."""
        self.meta = read.meta
        if self.spec is None and read.meta and read.meta.spec:
            self.spec = msgspec.json.decode(read.meta.spec, type=Spec)
        lease = read.meta.lease if read.meta else 0.0
        self.due = self._now() + (min(RECHECK, lease + 0.02) if lease > 0 else RECHECK)
        if read.meta is None or read.meta.gone:
            self._missing(read.meta)
        else:
            self.gone = False
            self._step(read.entries, read.meta.turn)
            if read.meta.turn.number < self.tail.turn.number:
                self._regate()
        self._learned(self)

    def _regate(self) -> None:
        if self._regating is None or self._regating.done():
            self._regating = asyncio.create_task(self._put_back(self.tail.standing))

    async def _put_back(self, turn: Turn) -> None:
        with suppress(StoreUnavailable):
            await self._store.regate(self.tail.sid, turn)

    def _missing(self, meta: Meta | None) -> None:
        if meta is not None or (self._suspicious(self._patience) and self.heal is None):
            self.gone = True
            self.tail.end(Ending.GONE)

    def _step(self, entries: tuple[Entry, ...], turn: Turn) -> None:
        if self._asked.epoch:
            if not entries or entries[0].id != self._asked:
                self.tail.mind(turn)
                newer = any(entry.epoch > self._asked.epoch for entry in entries)
                return self._diverged() if newer else self._behind()
            entries = entries[1:]
        outcome = self.tail.absorb(entries, turn)
        if outcome is Absorbed.HOLE:
            return self._behind()
        if outcome is Absorbed.DIVERGED:
            return self._diverged()
        self._suspect_since = None
        return None

    def _behind(self) -> None:
        if self._suspicious(HEALING):
            self._diverged()
        elif self.heal is not None:
            self.heal()

    def _diverged(self) -> None:
        if self.heal is not None:
            self.heal()
        elif self._reloading is None:
            self._reloading = asyncio.create_task(self._reload())

    def _suspicious(self, patience: float) -> bool:
        now = self._now()
        if self._suspect_since is None:
            self._suspect_since = now
        self.due = min(self.due, now + 0.1)
        return now - self._suspect_since >= patience

    async def _reload(self) -> None:
        try:
            read = await self._store.read(self.tail.sid)
            # A log that is not there at all its producer is about to write, or its lease will lapse.
            if self.heal is None and read.meta is not None and read.entries:
                self.tail.replace(Log(read.entries))
                self._suspect_since = None
        except StoreUnavailable:
            self.due = self._now() + 0.1
        finally:
            self._reloading = None

    def reload(self) -> None:
        """Read the whole log anew: this node's producer no longer answers for it."""
        self.heal = self.learned = None
        self._diverged()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
