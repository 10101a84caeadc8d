"""One producer's lines into one log: grouped, fenced by their ids, healed from memory.

One entry of a session is in the air at a time. Whenever its outcome is not plain (a lost reply, a
refusal, a log shorter than acknowledged) the appender stops, asks Redis where the log stands under
its lease, and only then goes on, restores what Redis lost, or learns that it was fenced out.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from enum import StrEnum

from redis.exceptions import OutOfMemoryError

from server.errors import StoreUnavailable
from server.events import Error, encode
from server.session.answers import Flag, Renewal, Shut
from server.session.follower import Follower
from server.session.log import Absorbed, Entry, Log
from server.session.pipeline import Command, Pipeline, Reply
from server.session.state import Gate
from server.session.store import Identity, Store, append_commands

logger = logging.getLogger(__name__)

ENTRY_BYTES = 256 * 1024
RETRY = 0.05
FULL_RETRY = 0.5
_FULL = Error(code="store_full", message="The store is full.", retryable=True)


def boottime() -> float:
    """Return seconds that also pass while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Over(StrEnum):
    """Why an appender may write no more."""

    WRITTEN = "written"
    CLOSED = "closed"
    FENCED = "fenced"
    DELETED = "deleted"
    LOST = "lost"


class Appender:
    """A session's writer; `over` resolves when it may write no more, `moved` is set on progress.

    `report` goes with every renewal, so that no loss of Redis can swallow it.
    """

    def __init__(
        self,
        who: Identity,
        follower: Follower,
        store: Store,
        pipeline: Pipeline,
        lease: float,
        grace: float,
    ) -> None:
        self.over: asyncio.Future[Over] = asyncio.get_running_loop().create_future()
        self.moved = asyncio.Event()
        self.backlog = 0
        self.viewers = 0
        self.watched = False
        self.report = b""
        self._who = who
        self._follower = follower
        self._tail = follower.tail
        self._store = store
        self._pipeline = pipeline
        self._lease = lease
        self._grace = grace
        self._pending: list[bytes] = []
        self._final = False
        self._flight: Entry | None = None
        self._queued = self._airborne = False
        self._full_since: float | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._lease_until = boottime() + lease
        self._lease_until_ms = int((time.time() + lease) * 1000)
        follower.heal = self.check

    def add(self, line: bytes, final: bool = False) -> None:
        """Append a line, with the next flight."""
        self._pending.append(line)
        self.backlog += len(line)
        self._final = final
        self._submit()

    def _submit(self) -> None:
        if not (self._queued or self._airborne or self._recovery or self.over.done()) and (
            self._flight or self._pending
        ):
            self._queued = True
            self._pipeline.submit(self)

    def commands(self) -> Sequence[Command]:
        """Return the next entry's append, made of all that waits; nothing while in doubt."""
        self._queued = False
        if self._recovery or self.over.done() or self._tail.log.closed:
            return ()
        if self._flight is None:
            self._flight = self._load()
        self._airborne = True
        return append_commands(self._who.sid, self._flight)

    def _load(self) -> Entry:
        count = size = 0
        for line in self._pending:
            count, size = count + 1, size + len(line)
            if size >= ENTRY_BYTES:
                break
        lines = tuple(self._pending[:count])
        del self._pending[:count]
        return self._tail.log.next(lines, final=self._final and not self._pending)

    def settle(self, replies: Sequence[Reply]) -> None:
        """Take the append's answer; the gate's, so that nothing is delivered past it."""
        self._airborne = False
        appended, _, gate = replies
        if self._flight is None or not isinstance(appended, bytes):
            if isinstance(appended, OutOfMemoryError):
                self._full_since = self._full_since or boottime()
            return self.check()
        self._full_since = None
        self._mind(gate)
        self._landed(self._flight)
        return self._submit()

    def lost(self) -> None:
        """Learn that the connection broke."""
        self._queued = self._airborne = False
        self.check()

    def _mind(self, gate: Reply) -> None:
        if isinstance(gate, bytes):
            seq = int(gate.split()[0])
            if seq != self._tail.gate:
                # How long the pause lasts comes with the next read; that it holds is known now.
                self._tail.shut(Shut(seq, self._who.spec.pause_ttl))
                self._follower.ring()
        elif self._tail.gate is not None:
            self._follower.ring()

    def _landed(self, flight: Entry) -> None:
        self._flight = None
        self.backlog -= sum(map(len, flight.lines))
        self._tail.absorb((flight,))
        self.moved.set()
        if flight.final:
            self._end(Over.WRITTEN)

    def _end(self, why: Over) -> None:
        if not self.over.done():
            self.over.set_result(why)
            self.moved.set()

    def learned(self) -> None:
        """See whether somebody else has closed the log."""
        if self._tail.log.closed and self._flight is None:
            self._end(Over.CLOSED)
        elif self._tail.log.closed:
            self.check()

    def check(self) -> None:
        """Stop appending until it is plain where the log stands."""
        if self._recovery is None:
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        try:
            while not await self._settled():  # noqa: ASYNC110 - it waits for another server
                await asyncio.sleep(RETRY)
        finally:
            self._recovery = None
        self._submit()

    async def _settled(self) -> bool:
        if self._airborne:
            return False
        try:
            if self._full_since and boottime() - self._full_since > self._grace:
                await self._store.control(self._who.sid, Gate.LIFT, final=encode(_FULL))
            settled = await self._reconcile(await self._renew())
            if settled and self._full_since and not self.over.done():
                await asyncio.sleep(FULL_RETRY)
            return settled
        except StoreUnavailable:
            return False

    async def _renew(self, lease: float | None = None) -> Renewal:
        asked = boottime()
        term = self._lease if lease is None else lease
        now_ms = int(time.time() * 1000)
        renewal = await self._store.renew(self._who, term, now_ms, self.report)
        if renewal.flag is Flag.OK:
            self._lease_until = asked + term
            self._lease_until_ms = renewal.now_ms + int(term * 1000)
            self.viewers, self.watched = renewal.viewers, renewal.watched
        return renewal

    async def renew(self) -> None:
        """Renew the lease; start a check if Redis holds less than it should."""
        log = self._tail.log
        epoch, top, count = log.epoch, log.top, len(log.entries)
        try:
            seen = await self._renew()
        except StoreUnavailable:
            return
        held = seen.dense and seen.top is not None and seen.top >= top and seen.entries >= count
        if seen.flag is not Flag.OK or seen.epoch != epoch or not held:
            self.check()

    def stop(self) -> None:
        """Settle no doubt any more."""
        if self._recovery is not None:
            self._recovery.cancel()

    async def release(self) -> None:
        """Give the lease back."""
        try:
            await self._renew(lease=0.0)
        except StoreUnavailable:
            logger.info("a lease is left to lapse")

    async def _reconcile(self, seen: Renewal) -> bool:
        log = self._tail.log
        if seen.flag is Flag.DELETED:
            return self._finished(Over.DELETED)
        if seen.flag is Flag.FENCED:
            return self._finished(Over.FENCED)
        if seen.flag is Flag.GONE or seen.epoch < log.epoch:
            return await self._restore()
        if seen.epoch > log.epoch:
            return await self._adopt()
        if self._flight and self._flight.id == seen.top and seen.entries == self._flight.ordinal:
            self._landed(self._flight)
            return True
        if (seen.top, seen.entries) == (log.top, len(log.entries)):
            return self._superseded() if log.closed else True
        return await self._restore()

    def _superseded(self) -> bool:
        """Drop what waits: the log is closed, and not by this producer unless it ended before."""
        self._flight = None
        self._pending.clear()
        self.backlog = 0
        return self._finished(Over.CLOSED)

    def _finished(self, why: Over) -> bool:
        self._end(why)
        return True

    async def _restore(self) -> bool:
        # The lease is for liveness; but only while it runs can nobody have closed a log that was lost.
        if boottime() >= self._lease_until:
            return self._finished(Over.LOST)
        tail = self._tail
        gate = f"{tail.gate} {int((time.time() + self._who.spec.pause_ttl) * 1000)}"
        flag = await self._store.restore(
            self._who,
            tail.log.entries,
            self._lease,
            gate if tail.gate is not None else "",
            self._lease_until_ms,
        )
        if flag is Flag.OK:
            return True
        if flag is Flag.FENCED:
            return self._finished(Over.FENCED)
        return self._finished(Over.DELETED) if flag is Flag.DELETED else False

    async def _adopt(self) -> bool:
        """Take over the final event that somebody else wrote, and fill what Redis lost below it."""
        read = await self._store.read(self._who.sid)
        if not read.entries or not (final := read.entries[-1]).final:
            return False
        log = self._tail.log
        if self._flight and final.first == self._flight.last + 1:
            self._landed(self._flight)
        self._superseded()
        if final.id != log.top and self._tail.absorb((final,)) is not Absorbed.GREW:
            below = Log(log.below(final.first))
            if below.absorb(final) is not Absorbed.GREW:
                below = Log(read.entries)
            self._tail.replace(below, "closed")
        if len(read.entries) != len(self._tail.log.entries):
            return await self._restore()
        return True
