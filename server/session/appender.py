"""One producer's lines into one log: grouped, and fenced by their ids.

One entry of a session is in the air at a time. Whenever its outcome is not plain (a lost reply, a
refusal, a log shorter than acknowledged) the appender stops until `healing` has settled the doubt.
"""

import asyncio
from collections.abc import Sequence

from redis.exceptions import OutOfMemoryError

from server.counts import COUNTS
from server.errors import StoreUnavailable
from server.session.answers import Flag, Shut, Turn
from server.session.commands import append_command, gate_command, ring_command
from server.session.follower import Follower
from server.session.healing import Healing, Over
from server.session.jobs import Carrier, Note
from server.session.lease import Lease, boottime
from server.session.link import Command, Reply
from server.session.log import Entry
from server.session.store import Identity, Store

ENTRY_BYTES = 256 * 1024
LOOK = 0.09
"""Seconds between looks at the gate and at who listens: either also comes by the bell, which may fail."""
LAST_LOOKS = 3
LATE = 0.1
"""Seconds that a flight may take without a look at the gate behind it."""


class Appender:
    """A session's writer; `over` resolves when it may write no more, `moved` is set on progress.

    An `heir` appends by a script: it costs more, and is safe where an epoch was handed on.
    """

    def __init__(
        self,
        who: Identity,
        follower: Follower,
        store: Store,
        redis: Carrier,
        lease: Lease,
        grace: float,
        heir: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[Over] = self._loop.create_future()
        self.key = who.sid
        self.lease = lease
        self.moved = asyncio.Event()
        self.backlog = 0
        self._who = who
        self._heir = heir
        self._store = store
        self._follower = follower
        self._tail = follower.tail
        self._redis = redis
        self._codec = store.codec
        self._grace = grace
        self._pending: list[bytes] = []
        self._final = False
        self.flight: Entry | None = None
        self.airborne = False
        self._queued = True  # nothing flies before `open`
        self._look_at = self._left = 0.0
        self._looked = self._heard = self._rung = True
        self._unheard = False
        self.full_since: float | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._stopped = False
        follower.heal = self.check

    def open(self) -> None:
        """Begin: the log is there."""
        self._queued = False
        self._submit()

    def add(self, line: bytes, final: bool = False) -> None:
        """Append a line, with the next flight."""
        self._pending.append(line)
        self.backlog += len(line)
        self._final = final
        self._submit()

    def _submit(self) -> None:
        if not (self._queued or self.airborne or self._recovery or self.over.done()) and (
            self.flight or self._pending
        ):
            self._queued = True
            # A first token is what somebody looks at an empty page for.
            self._redis.submit(self, urgent=not self._tail.log.lines)

    def commands(self) -> Sequence[Command]:
        """Return the next entry's append, made of all that waits; nothing while in doubt."""
        self._queued = False
        if self._recovery or self.over.done() or self._see_closed():
            return ()
        if self.flight is None:
            self.flight = self._load()
        self.airborne = True
        return self._with_looks(self._append(self.flight), self.flight.final)

    def _append(self, entry: Entry) -> Command:
        if self._heir:
            return self._store.extend_command(self._who, self._tail.log, entry)
        return append_command(self.key, entry, self._codec)

    def _with_looks(self, append: Command, final: bool) -> Sequence[Command]:
        """Ring while another node listens; else, and at the gate, look now and then."""
        now = self._loop.time()
        if self._left:
            COUNTS.gap.add(now - self._left)
        self._left = now
        self._looked = now >= self._look_at
        self._rung = self._looked or self._heard or final
        self._unheard = not self._rung
        if not self._rung:
            return (append,)
        sid = self._who.sid
        if not self._looked:
            return (append, ring_command(sid))
        self._look_at = now + LOOK
        return (append, ring_command(sid), gate_command(sid))

    def _load(self) -> Entry:
        if self.backlog <= ENTRY_BYTES:
            lines, self._pending = tuple(self._pending), []
            return self._tail.log.next(lines, final=self._final)
        count = size = 0
        while count < len(self._pending) and size < ENTRY_BYTES:
            count, size = count + 1, size + len(self._pending[count])
        lines = tuple(self._pending[:count])
        del self._pending[:count]
        return self._tail.log.next(lines, final=self._final and not self._pending)

    def settle(self, replies: Sequence[Reply]) -> None:
        """Take the append's answer; before the tail grows, the gate's, if that was asked for."""
        self.airborne = False
        appended = replies[0]
        if self.flight is None or not isinstance(appended, bytes):
            if isinstance(appended, OutOfMemoryError):
                self.full_since = self.full_since or boottime()
            return self.check()
        self.full_since = None
        if self._rung:
            self._heard = replies[1] != 0
        if not self._looked and self._loop.time() - self._left > LATE:
            return self.check()  # a pause may have been answered while the append was on its way
        self.landed(self.flight, self._seen(replies[2]) if self._looked else None)
        return self._submit()

    def lost(self) -> None:
        """Learn that the connection broke."""
        self._queued = self.airborne = False
        self.check()

    def _seen(self, gate: Reply) -> Turn | None:
        """Return the gate's turn if it is a new one; how long a pause lasts the next read says."""
        if isinstance(gate, Exception):
            return None
        number, *shut = map(int, (gate or b"0").split())
        if number != self._tail.turn.number:
            self._follower.ring()
        if number <= self._tail.turn.number:
            return None
        return Turn(number, Shut(shut[0], self._who.spec.pause_ttl) if shut else None)

    def landed(self, flight: Entry, turn: Turn | None = None) -> None:
        """Take an entry that Redis holds into the tail, and the gate if that was looked at."""
        self.flight = None
        COUNTS.entries += 1
        COUNTS.events += len(flight.lines)
        for line in flight.lines:
            self.backlog -= len(line)
        self._tail.absorb((flight,), turn)
        self.moved.set()
        if flight.final:
            self.end(Over.WRITTEN)

    def end(self, why: Over) -> bool:
        """Write no more."""
        if not self.over.done():
            self.over.set_result(why)
            COUNTS.over[why.value] += 1
            self.moved.set()
        return True

    def learned(self) -> None:
        """See whether somebody else has closed the log, or listens now."""
        self._look_at = 0.0
        if self._unheard:
            self._unheard = False
            self._redis.submit(Note(self.key, ring_command(self.key)))
        self._see_closed()

    def _see_closed(self) -> bool:
        """Say whether the log is closed; what of it is still in doubt has to be settled."""
        if self._tail.log.closed:
            self.end(Over.CLOSED) if self.flight is None else self.check()
        return self._tail.log.closed

    def check(self) -> None:
        """Stop appending until it is plain where the log stands."""
        if not (self._recovery or self._stopped):
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        try:
            # Made anew each time: two that know each other would stay, with the log, until collected.
            doctor = Healing(self, self._who, self._tail, self._store, self.lease, self._grace)
            await doctor.settle()
        finally:
            self._recovery = None
        self._submit()

    def drop(self) -> None:
        """Forget what waits: the log is closed."""
        self.flight = None
        self._pending.clear()
        self.backlog = 0

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

    async def leave(self) -> None:
        """Look a last time whether Redis holds what it should; heal it, and give the lease back."""
        for _ in range(LAST_LOOKS):
            await self.renew()
            if self._recovery:
                await asyncio.wait((self._recovery,), timeout=self.lease.seconds)
            if await self.lease.release():
                return

    def stop(self) -> None:
        """Settle no doubt any more."""
        self._stopped = True
        if self._recovery:
            self._recovery.cancel()
