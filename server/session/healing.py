"""Settles every doubt about one log: where does it stand in Redis, and what of it is lost?

The doubtful producer's node asks under its lease. Then the entry in the air has landed or goes out
again, the log is restored from memory, somebody else's final event is adopted, or the producer
learns that it was fenced out.
"""

import asyncio
from enum import StrEnum
from typing import Protocol

from server.counts import COUNTS
from server.errors import StoreUnavailable
from server.events import Error, encode
from server.session.answers import Flag, Renewal, Turn
from server.session.lease import Lease, boottime
from server.session.log import Absorbed, Entry, Log
from server.session.state import Gate
from server.session.store import Identity, Store
from server.session.tail import Tail

RETRY = 0.05
FULL_RETRY = 0.5
_FULL = Error(code="store_full", message="The store is full.", retryable=True)


class Over(StrEnum):
    """Why a log's writer may write no more."""

    WRITTEN = "written"
    CLOSED = "closed"
    FENCED = "fenced"
    DELETED = "deleted"
    LOST = "lost"


_REFUSED = {Flag.FENCED: Over.FENCED, Flag.DELETED: Over.DELETED}


class Writer(Protocol):
    """The log's writer, which stands still meanwhile: `flight` is the entry whose outcome is unknown."""

    over: asyncio.Future[Over]
    flight: Entry | None
    airborne: bool
    full_since: float | None

    def landed(self, flight: Entry, turn: Turn | None) -> None:
        """Take an entry that Redis holds into the tail, behind the gate as it is."""

    def drop(self) -> None:
        """Forget what waits."""

    def end(self, why: Over) -> bool:
        """Write no more."""


class Healing:
    """One log's doctor; `grace` is the seconds that a full Redis may stay full."""

    def __init__(
        self, writer: Writer, who: Identity, tail: Tail, store: Store, lease: Lease, grace: float
    ) -> None:
        self._writer = writer
        self._who = who
        self._tail = tail
        self._store = store
        self._lease = lease
        self._grace = grace

    async def settle(self) -> None:
        """Ask until it is plain where the log stands."""
        while not await self._settled():  # noqa: ASYNC110 - it waits for another server
            await asyncio.sleep(RETRY)

    async def _settled(self) -> bool:
        writer = self._writer
        if writer.airborne:
            return False
        try:
            if writer.full_since and boottime() - writer.full_since > self._grace:
                await self._store.control(self._who.sid, Gate.LIFT, final=encode(_FULL))
            settled = await self._reconcile(await self._lease.renew())
            if settled and writer.full_since and not writer.over.done():
                await asyncio.sleep(FULL_RETRY)
            return settled
        except StoreUnavailable:
            return False

    async def _reconcile(self, seen: Renewal) -> bool:
        log = self._tail.log
        if seen.flag in _REFUSED:
            return self._writer.end(_REFUSED[seen.flag])
        if seen.flag is Flag.GONE:
            return await self._restore(gone=True)
        if seen.epoch < log.epoch:
            return await self._restore()
        if seen.epoch > log.epoch:
            return await self._adopt()
        flight = self._writer.flight
        if flight and (flight.id, flight.ordinal) == (seen.top, seen.entries):
            self._writer.landed(flight, await self._turn())
            return True
        if (seen.top, seen.entries) == (log.top, len(log.entries)):
            return self._superseded() if log.closed else True
        return await self._restore()

    async def _turn(self) -> Turn | None:
        meta = (await self._store.peek(self._who.sid)).meta
        return meta.turn if meta else None

    def _superseded(self) -> bool:
        """Drop what waits: the log is closed, and not by this producer unless it ended before."""
        self._writer.drop()
        return self._writer.end(Over.CLOSED)

    async def _restore(self, *, gone: bool = False) -> bool:
        # Only while the lease runs can nobody have closed a log that Redis lost.
        if not self._lease.running:
            return self._writer.end(Over.LOST)
        tail, lease = self._tail, self._lease
        # The lease before the log: where hundreds are lost at once, that has to wait for its turn.
        flag = await lease.regain(tail.log.top, tail.standing) if gone else Flag.OK
        if flag is Flag.OK:
            async with self._store.rewriting:
                flag = await self._store.restore(
                    self._who, tail.log.entries, lease.seconds, tail.standing, lease.until_ms
                )
            COUNTS.heals += flag is Flag.OK
        if flag in _REFUSED:
            return self._writer.end(_REFUSED[flag])
        return flag is Flag.OK

    async def _adopt(self) -> bool:
        """Take over the final event that somebody else wrote, and fill what Redis lost below it."""
        read = await self._store.read(self._who.sid)
        if not read.entries or not (final := read.entries[-1]).final:
            return False
        log = self._tail.log
        if self._writer.flight and final.first == self._writer.flight.last + 1:
            self._writer.landed(self._writer.flight, read.meta.turn if read.meta else None)
        self._superseded()
        if final.id != log.top and self._tail.absorb((final,)) is not Absorbed.GREW:
            below = Log(log.below(final.first))
            if below.absorb(final) is not Absorbed.GREW:
                below = Log(read.entries)
            self._tail.replace(below, "closed")
        if len(read.entries) != len(self._tail.log.entries):
            return await self._restore()
        return True
