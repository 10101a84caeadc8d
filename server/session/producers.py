"""A node's producers: they live here, not in a request, so that a client who leaves stops nothing."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from server.callers import CALLER
from server.counts import COUNTS, Levels
from server.events import Cursor
from server.session.answers import Flag
from server.session.appender import Appender
from server.session.follower import Follower
from server.session.healing import Over
from server.session.hub import Hub
from server.session.jobs import Carrier
from server.session.lease import Lease
from server.session.ledger import Allowed
from server.session.levels import levels
from server.session.producer import Bounds, Producer
from server.session.state import Options, Spec
from server.session.store import Identity, Store
from server.session.tasks import Tasks
from server.trail import SESSION
from server.upstream import Request, Takeover, Upstream

log = logging.getLogger(__name__)

LAST_WORD = 2.0
BEAT = 0.05
LOOK = 1.0
"""Seconds after which a renewal shows at the latest that Redis has lost some of a log."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every session of a node unless its caller chose otherwise; times in seconds."""

    lease: float
    linger: float
    ttl: float
    hold_limit: int
    pause_ttl: float
    bounds: Bounds
    send_timeout: float
    grace: float
    allowed: Allowed

    def spec(
        self,
        request: Request,
        options: Options,
        takeover: Takeover,
        created: int,
        echo: dict[str, Any] | None,
    ) -> Spec:
        """Return what is fixed of a session that the caller starts now."""
        return Spec(
            model=request.model,
            created=created,
            conversation=options.conversation,
            ttl=_chosen(options.ttl, self.ttl),
            orphan_ttl=options.orphan_ttl,
            hold_limit=_chosen(options.hold_limit, self.hold_limit),
            pause_ttl=_chosen(options.pause_ttl, self.pause_ttl),
            principal=CALLER.get().principal,
            takeover=takeover,
            request=None if takeover is Takeover.ERROR else request,
            echo=echo,
        )


def _chosen(option: Any, setting: Any) -> Any:
    return setting if option is None else option


class Producers:
    """The producers of one node by session id; `orphaned(sid)` ends one that nobody watches."""

    def __init__(
        self,
        node: str,
        store: Store,
        hub: Hub,
        hot: Carrier,
        rules: Rules,
        tasks: Tasks,
        orphaned: Callable[[str], Awaitable[None]],
    ) -> None:
        self._node = node
        self._store = store
        self._hub = hub
        self._hot = hot
        self._rules = rules
        self._tasks = tasks
        self._orphaned = orphaned
        self._running: dict[str, Producer] = {}
        self._beats: deque[tuple[float, Producer]] = deque()
        self._draining = False
        self._every = min(rules.lease / 3, LOOK)
        hot.reconnected = self._look_again
        tasks.spawn(self._beat())

    def levels(self, down: float, full: float, draining: bool) -> Levels:
        """Say how things stand on this node, for whoever watches over it."""
        return levels(self._hub, self._running.values(), down, full, draining)

    def get(self, sid: str) -> Producer | None:
        """Return the session's producer, if it is one of this node."""
        return self._running.get(sid)

    def prepare(self, who: Identity) -> tuple[Producer, Follower]:
        """Return the producer of a session that may start here, and its tail's reader."""
        SESSION.set(who.sid)
        follower = self._hub.prepare(who)
        return self._made(who, follower, heir=False), follower

    def _made(self, who: Identity, follower: Follower, *, heir: bool) -> Producer:
        rules, sid = self._rules, who.sid
        lease = Lease(who, self._store, rules.lease)
        appender = Appender(who, follower, self._store, self._hot, lease, rules.grace, heir)
        producer = Producer(
            follower.tail, appender, who.spec, rules.bounds, self._node, lambda: self._orphaned(sid)
        )

        def learned() -> None:
            appender.learned()
            if who.spec.orphan_ttl is not None:
                self._tasks.spawn(producer.beat())

        follower.learned = learned
        return producer

    def begin(self, producer: Producer, follower: Follower, epoch: int) -> None:
        """Run a session that was created; its tail is open when this returns."""
        self._hub.begin(follower, epoch)
        self._begin(producer, follower, epoch)

    async def inherit(
        self, who: Identity, upstream: Upstream, request: Request, behind: Cursor | None, *, heirs: int
    ) -> tuple[Flag, int]:
        """Take over a session whose producer is gone, as `Store.inherit` does; if OK, it runs here."""
        mine = self._running.get(who.sid)
        if self._draining or (mine and not mine.appender.over.done()):
            return Flag.HELD, 0  # for a node that stays; or this one was late to renew, and will
        flag, epoch = await self._store.inherit(who, self._rules.lease, behind, heirs)
        if flag is Flag.OK and (follower := await self._hub.inherited(who.sid, epoch)):
            producer = self._made(who, follower, heir=True)
            producer.start(upstream, request)
            self._begin(producer, follower, epoch)
        return flag, epoch

    def _begin(self, producer: Producer, follower: Follower, epoch: int) -> None:
        producer.appender.lease.begin(epoch)
        self._running[producer.tail.sid] = producer
        COUNTS.started += 1
        # Those of one burst do not beat together for ever.
        first = self._every * random.uniform(0.5, 1.0)
        self._beats.append((asyncio.get_running_loop().time() + first, producer))
        producer.appender.open()
        self._tasks.spawn(self._produce(producer, follower))

    async def _produce(self, producer: Producer, follower: Follower) -> None:
        appender, sid = producer.appender, follower.tail.sid
        try:
            await producer.run(self._rules.linger)
        finally:
            if self._running.get(sid) is producer:  # else its heir is on this very node
                self._left(sid, appender, follower)

    def _left(self, sid: str, appender: Appender, follower: Follower) -> None:
        del self._running[sid]
        follower.heal = follower.learned = None
        self._hub.follow(sid)
        if appender.over.done() and appender.over.result() in (Over.FENCED, Over.LOST):
            log.warning("session %s is not ours any more: %s", sid, appender.over.result())
            follower.reload()

    async def _beat(self) -> None:
        """Renew each lease thrice in it, or more often; each at its own time, since all would be felt."""
        loop, beats = asyncio.get_running_loop(), self._beats
        while True:
            await asyncio.sleep(min(BEAT, self._every / 3))
            now = loop.time()
            while beats and beats[0][0] <= now:
                _, producer = beats.popleft()
                if self._running.get(producer.tail.sid) is producer:
                    self._tasks.spawn(producer.beat())
                    beats.append((now + self._every, producer))

    def _look_again(self) -> None:
        # Those that somebody waits for go first; what is checked waits in that order to be healed.
        for producer in sorted(self._running.values(), key=lambda p: p.appender.over.done()):
            producer.appender.check()

    async def drain(self, seconds: float) -> None:
        """Let what runs end; after `seconds`, end it or hand it over. Nothing is inherited any more."""
        self._draining = True
        running = [p.closed for p in self._running.values() if not p.closed.done()]
        if running:
            _, late = await asyncio.wait(running, timeout=seconds)
            for producer in self._running.values():
                if producer.closed in late:
                    producer.leave()
            await asyncio.wait(running, timeout=LAST_WORD)
        written = [p.appender.over for p in self._running.values()]
        if written:
            await asyncio.wait(written, timeout=LAST_WORD)

    async def release(self) -> None:
        """Give every lease back."""
        leases = [producer.appender.lease for producer in self._running.values()]
        await asyncio.gather(*(lease.release() for lease in leases), return_exceptions=True)
