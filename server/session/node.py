"""All that a transport may ask of a node: start, sit down, control, look, delete.

The node owns the tasks: producers live here, not in a request, so that a client who leaves stops
nothing.
"""

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from server.errors import Conflict, Draining, Gone, StoreUnavailable
from server.events import Aborted, AbortReason, Cursor, decode_final, encode
from server.session import snapshot
from server.session.answers import Controlled, Flag, Shut
from server.session.appender import Appender, Over
from server.session.hub import Hub
from server.session.pipeline import Pipeline
from server.session.producer import Bounds, Producer
from server.session.state import EFFECT, Action, Gate, Options, Report, Spec, status_of
from server.session.store import PATIENCE, Identity, Store
from server.session.sweeper import sweep_for_ever
from server.session.tail import Dialect, Ending, Sink, Tail, Viewer
from server.upstream import Request, Upstream

log = logging.getLogger(__name__)

CATCH_UP = 2.0
CONFIRM = 2.0
_FINALS = {Action.ABORT: encode(Aborted(AbortReason.USER))}


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


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a client would read on: the tail and the cursor's seq, or from the start after a reset."""

    tail: Tail
    cursor: Cursor
    reset: str | None = None

    @property
    def at_end(self) -> bool:
        """Whether nothing is left to deliver, now or ever."""
        log = self.tail.log
        return log.closed and self.reset is None and self.cursor.seq == log.head


class Node:
    """One server process's sessions."""

    def __init__(
        self, name: str, store: Store, hub: Hub, hot: Pipeline, rules: Rules, secret: bytes
    ) -> None:
        self.name = name
        self.rules = rules
        self.secret = secret
        self.draining = False
        self._store = store
        self._hub = hub
        self._hot = hot
        self._producers: dict[str, Producer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        hot.reconnected = self._look_again
        self._spawn(self._beat())
        self._spawn(sweep_for_ever(store, name, 5 * rules.lease))

    @property
    def down_for(self) -> float:
        """Seconds since the store could last be reached; 0 while it can."""
        since = self._hot.down_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    async def start(
        self,
        sid: str,
        upstream: Upstream,
        request: Request,
        options: Options,
        digest: str,
        principal: str = "",
    ) -> bool:
        """Start a session; return whether it is new. Raise `Conflict`, `Gone` or `Draining`."""
        if self.draining:
            raise Draining()
        # The owner is this very call: it may ask again after a lost answer, a second call may not.
        owner = f"{self.name}:{secrets.token_hex(4)}"
        who = Identity(sid, owner, self._spec(request, options, principal), digest)
        flag, epoch = await self._store.create(who, self.rules.lease)
        if flag is Flag.CONFLICT:
            raise Conflict()
        if flag is Flag.GONE:
            raise Gone()
        if flag is Flag.EXISTS:
            return False
        self._spawn(self._produce(who, epoch, upstream, request))
        return True

    def _spec(self, request: Request, options: Options, principal: str) -> Spec:
        rules = self.rules
        return Spec(
            model=request.model,
            created=int(time.time() * 1000),
            principal=principal,
            conversation=options.conversation,
            ttl=_chosen(options.ttl, rules.ttl),
            orphan_ttl=options.orphan_ttl,
            hold_limit=_chosen(options.hold_limit, rules.hold_limit),
            pause_ttl=_chosen(options.pause_ttl, rules.pause_ttl),
        )

    async def _produce(self, who: Identity, epoch: int, upstream: Upstream, request: Request) -> None:
        follower = self._hub.begin(who, epoch)
        rules, sid = self.rules, who.sid
        appender = Appender(who, follower, self._store, self._hot, rules.lease, rules.grace)

        async def orphaned() -> None:
            final = encode(Aborted(AbortReason.ORPHANED))
            await self._close(sid, Action.ABORT, final)

        producer = self._producers[sid] = Producer(
            follower.tail, appender, who.spec, rules.bounds, self.name, orphaned
        )

        def learned() -> None:
            appender.learned()
            if who.spec.orphan_ttl is not None:
                self._spawn(producer.beat())

        follower.learned = learned
        try:
            await producer.run(upstream, request, rules.linger)
        finally:
            del self._producers[sid]
            follower.heal = follower.learned = None
            self._hub.follow(sid)
            if appender.over.done() and appender.over.result() in (Over.FENCED, Over.LOST):
                follower.reload()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.rules.lease / 3)
            beats = [producer.beat() for producer in self._producers.values()]
            for outcome in await asyncio.gather(*beats, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, StoreUnavailable):
                    log.error("a renewal failed", exc_info=outcome)

    def _look_again(self) -> None:
        for producer in self._producers.values():
            producer.appender.check()

    async def seat(self, sid: str, after: Cursor | None) -> Seat:
        """Find where to read on after `after`; one that is ahead gets 2 s to become true."""
        tail = await self._hub.tail(sid)
        if after is None:
            return Seat(tail, Cursor(tail.log.epoch, 0))
        deadline = asyncio.get_running_loop().time() + CATCH_UP
        while not tail.log.holds(after):
            ahead = after.seq > tail.log.head
            if not ahead or asyncio.get_running_loop().time() >= deadline:
                return Seat(tail, Cursor(tail.log.epoch, 0), "ahead" if ahead else "diverged")
            await asyncio.sleep(0.02)
            self._hub.look(sid)
        return Seat(tail, after)

    def join(self, seat: Seat, dialect: Dialect, sink: Sink, **facts: Any) -> Viewer:
        """Attach a viewer: the `session` notice, a `reset` if it must begin anew, then the log."""
        tail, log = seat.tail, seat.tail.log
        viewer = tail.join(dialect, sink, self.rules.send_timeout)
        reset = seat.reset or (None if log.holds(seat.cursor) else "diverged")
        viewer.notify("session", **snapshot.notice(tail, self._hub.model(tail.sid)), **facts)
        if reset is not None:
            viewer.notify("reset", reason=reset, epoch=log.epoch)
        viewer.position = 0 if reset is not None else seat.cursor.seq
        viewer.push()
        return viewer

    async def control(self, sid: str, action: Action) -> dict[str, Any]:
        """Pause, resume or abort; asked twice, it answers twice the same."""
        result = await self._close(sid, action, _FINALS.get(action, b""))
        final = decode_final(result.final) if result.final else None
        answer = {
            "id": str(result.cursor),
            "status": status_of(final),
            "paused": result.gate is not None,
            "gate": result.gate,
        }
        return answer | (await self._confirmed(sid) if action is Action.ABORT else {})

    async def _close(self, sid: str, action: Action, final: bytes) -> Controlled:
        pause_ttl = self._hub.pause_ttl(sid, self.rules.pause_ttl)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while True:
            result = await self._store.control(sid, EFFECT[action], pause_ttl, final)
            if result.flag is Flag.DELETED:
                raise Gone()
            # A log that is not there may be healing: its producer writes it anew from memory.
            missing = result.flag in (Flag.GONE, Flag.LOST)
            if not missing or (result.flag is Flag.GONE and sid not in self._hub.followers):
                break
            if loop.time() >= deadline:
                break
            await asyncio.sleep(0.05)
        if missing:
            raise await self._hub.absent(sid)
        self._apply(sid, result, pause_ttl)
        return result

    def _apply(self, sid: str, result: Controlled, pause_ttl: float) -> None:
        follower = self._hub.followers.get(sid)
        if follower is None:
            return
        tail = follower.tail
        if result.closing is not None and result.closing.first == tail.log.head + 1:
            tail.absorb((result.closing,))
        tail.shut(None if result.gate is None else Shut(result.gate, pause_ttl))
        follower.ring()
        if follower.learned is not None:
            follower.learned()

    async def _confirmed(self, sid: str) -> dict[str, Any]:
        """Wait, bounded, until the producer has closed its upstream; else go on asking behind."""
        producer = self._producers.get(sid)
        report: Report | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM):
                if producer is not None:
                    report = await asyncio.shield(producer.closed)
                else:
                    report = await self._insist(sid)
        if report is None and producer is None:
            self._spawn(self._insist(sid))
        return snapshot.closing(report)

    async def _insist(self, sid: str) -> Report | None:
        """Ask until the producer reports; abort again if Redis lost that.

        A producer without a lease, or a log that is gone, may come back while Redis may still roll
        back or the producer heal: as long as a producer lingers.
        """
        rounds = 0
        absent_since: float | None = None
        while True:
            (read,) = await self._store.peek((sid,))
            meta, closed = read.meta, bool(read.entries) and read.entries[-1].final
            if meta is not None and meta.gone:
                return None
            if meta is not None and meta.report and closed:
                return msgspec.json.decode(meta.report, type=Report)
            now = asyncio.get_running_loop().time()
            if meta is not None and meta.lease > 0:
                absent_since = None
            absent_since = absent_since or now
            if now - absent_since > self.rules.linger + self.rules.lease:
                return None
            if meta is not None and not closed:
                await self._store.control(sid, Gate.LIFT, final=_FINALS[Action.ABORT])
            rounds += 1
            if rounds % 20 == 0:
                await self._store.ring(sid)
            await asyncio.sleep(0.005 if rounds < 100 else 0.1)

    async def delete(self, sid: str) -> None:
        """Abort if live, wait for the upstream to be closed, and wipe the log for good."""
        # One that is gone just now its producer may be about to restore: the tombstone prevents that.
        with suppress(Gone):
            await self.control(sid, Action.ABORT)
        await self._wipe(sid)
        if (follower := self._hub.followers.get(sid)) is not None:
            follower.tail.end(Ending.GONE)
            self._hub.close(sid)
        self._spawn(self._keep_wiped(sid))

    async def _wipe(self, sid: str) -> None:
        await self._store.wipe(sid, self.rules.linger + 5 * self.rules.lease)

    async def _keep_wiped(self, sid: str) -> None:
        """Wipe again if Redis lost the tombstone, for as long as a producer could restore."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.rules.linger + self.rules.lease
        while loop.time() < until:
            await asyncio.sleep(self.rules.lease / 3)
            with suppress(StoreUnavailable):
                (read,) = await self._store.peek((sid,))
                if read.meta is None or not read.meta.gone:
                    await self._wipe(sid)

    async def session(self, sid: str) -> dict[str, Any]:
        """Return the session object."""
        read = await self._store.read(sid)
        if read.meta is None:
            raise await self._hub.absent(sid)
        if read.meta.gone:
            raise Gone()
        return snapshot.session(sid, read, await self._store.viewers(sid))

    async def sessions(self, offset: int, count: int) -> list[dict[str, Any]]:
        """Return the recent sessions, newest first, without their text."""
        sids = await self._store.recent(offset, count)
        reads = await self._store.peek(sids) if sids else []
        return [
            snapshot.summary(sid, read)
            for sid, read in zip(sids, reads, strict=True)
            if read.meta is not None and not read.meta.gone
        ]

    async def drain(self, seconds: float) -> None:
        """Take no new sessions, send the viewers elsewhere, and let what runs end; then end it."""
        self.draining = True
        for follower in self._hub.followers.values():
            for viewer in list(follower.tail.viewers):
                viewer.notify("moving")
            follower.tail.end(Ending.MOVING)
        running = [p.closed for p in self._producers.values() if not p.closed.done()]
        if running:
            _, late = await asyncio.wait(running, timeout=seconds)
            for producer in self._producers.values():
                if producer.closed in late:
                    producer.stop(AbortReason.SHUTDOWN)
            await asyncio.wait(running, timeout=CONFIRM)
        written = [p.appender.over for p in self._producers.values()]
        if written:
            await asyncio.wait(written, timeout=CONFIRM)

    async def aclose(self) -> None:
        """Stop every task; leases of what still ran are given back."""
        await asyncio.gather(
            *(p.appender.release() for p in self._producers.values()), return_exceptions=True
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hub.aclose()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, StoreUnavailable):
            log.error("a task of the node failed", exc_info=error)


def _chosen(option: Any, setting: Any) -> Any:
    return setting if option is None else option
