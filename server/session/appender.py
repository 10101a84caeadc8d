"""One producer's lines into one log: grouped, fenced by their ids, healed from memory.

One entry of a session is in the air at a time. Whenever its outcome is not plain (a lost reply, a
refusal, a log shorter than acknowledged) the appender stops, asks Redis where the log stands under
its lease, and only then goes on, restores what Redis lost, or learns that it was fenced out.
"""

import asyncio
import logging
from collections.abc import Sequence
from enum import StrEnum

from redis.exceptions import OutOfMemoryError

from server.errors import StoreUnavailable
from server.events import Error, encode
from server.session.answers import Flag, Renewal, Shut
from server.session.follower import Follower
from server.session.lease import Lease, boottime
from server.session.log import Absorbed, Entry, Log
from server.session.pipeline import Command, Pipeline, Reply
from server.session.state import Gate
from server.session.store import Identity, Store, append_commands

logger = logging.getLogger(__name__)

ENTRY_BYTES = 256 * 1024
RETRY = 0.05
FULL_RETRY = 0.5
_FULL = Error(code="store_full", message="The store is full.", retryable=True)


class Over(StrEnum):
    """Why an appender may write no more."""

    WRITTEN = "written"
    CLOSED = "closed"
    FENCED = "fenced"
    DELETED = "deleted"
    LOST = "lost"


_REFUSED = {Flag.FENCED: Over.FENCED, Flag.DELETED: Over.DELETED}


class Appender:
    """A session's writer; `over` resolves when it may write no more, `moved` is set on progress."""

    def __init__(
        self,
        who: Identity,
        follower: Follower,
        store: Store,
        pipeline: Pipeline,
        lease: Lease,
        grace: float,
    ) -> None:
        self.over: asyncio.Future[Over] = asyncio.get_running_loop().create_future()
        self.lease = lease
        self.moved = asyncio.Event()
        self.backlog = 0
        self._who = who
        self._follower = follower
        self._tail = follower.tail
        self._store = store
        self._pipeline = pipeline
        self._grace = grace
        self._pending: list[bytes] = []
        self._final = False
        self._flight: Entry | None = None
        self._queued = self._airborne = False
        self._full_since: float | None = None
        self._recovery: asyncio.Task[None] | None = None
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
        while count < len(self._pending) and size < ENTRY_BYTES:
            count, size = count + 1, size + len(self._pending[count])
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

    def _end(self, why: Over) -> bool:
        if not self.over.done():
            self.over.set_result(why)
            self.moved.set()
        return True

    def learned(self) -> None:
        """See whether somebody else has closed the log."""
        if self._tail.log.closed:
            self._end(Over.CLOSED) if self._flight is None else self.check()

    def check(self) -> None:
        """Stop appending until it is plain where the log stands."""
        if not self._recovery:
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
            settled = await self._reconcile(await self.lease.renew())
            if settled and self._full_since and not self.over.done():
                await asyncio.sleep(FULL_RETRY)
            return settled
        except StoreUnavailable:
            return False

    async def renew(self) -> None:
        """Renew the lease; start a check if Redis holds less than it should."""
        log = self._tail.log
        epoch, top, count = log.epoch, log.top, len(log.entries)
        try:
            seen = await self.lease.renew()
        except StoreUnavailable:
            self.check()  # which asks again and again: a lease must not lapse for one lost answer
            return
        held = seen.dense and seen.top is not None and seen.top >= top and seen.entries >= count
        if seen.flag is not Flag.OK or seen.epoch != epoch or not held:
            self.check()

    def stop(self) -> None:
        """Settle no doubt any more."""
        if self._recovery:
            self._recovery.cancel()

    async def _reconcile(self, seen: Renewal) -> bool:
        log = self._tail.log
        if seen.flag in _REFUSED:
            return self._end(_REFUSED[seen.flag])
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
        return self._end(Over.CLOSED)

    async def _restore(self) -> bool:
        # Only while the lease runs can nobody have closed a log that Redis lost.
        if not self.lease.running:
            return self._end(Over.LOST)
        tail, lease = self._tail, self.lease
        flag = await self._store.restore(
            self._who, tail.log.entries, lease.seconds, tail.gate, lease.until_ms
        )
        if flag in _REFUSED:
            return self._end(_REFUSED[flag])
        return flag is Flag.OK

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
