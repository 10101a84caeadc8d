"""All that a transport may ask of a node: start, sit down, control, look, delete."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from typing import Any

from server.callers import CALLER, Right
from server.counts import Levels
from server.errors import Conflict, Draining, Gone, StoreUnavailable
from server.events import Cursor
from server.session import snapshot
from server.session.admission import Admission
from server.session.answers import Flag
from server.session.conversations import Conversations
from server.session.directory import Directory
from server.session.heirs import Heirs
from server.session.hub import Hub
from server.session.intake import Intake
from server.session.jobs import Carrier
from server.session.leavers import Leavers
from server.session.ledger import Ledger
from server.session.producers import Producers, Rules
from server.session.roll import Roll
from server.session.rows import Rows
from server.session.seat import Seat
from server.session.state import Action, Options, Spec
from server.session.steering import Steering
from server.session.store import Identity, Store
from server.session.sweeper import sweep_for_ever
from server.session.tasks import Tasks
from server.session.viewer import Dialect, Sink, Viewer
from server.upstream import Head, Models, Request

CATCH_UP = SPREAD = 2.0


class Node:
    """One server process's sessions. `models` says who serves what.

    Every call is on behalf of `server.callers.CALLER`, and checked for what that may do.
    Each connection that delivers puts a call into `leavers` that tells its client to go elsewhere. While
    `leaving`, no connection is kept open behind an answer; while `draining`, nothing new begins.
    """

    def __init__(
        self,
        name: str,
        models: Models,
        store: Store,
        directory: Directory,
        hub: Hub,
        hot: Carrier,
        rules: Rules,
        secret: bytes,
        ledger: Ledger,
    ) -> None:
        self.name = name
        self.models = models
        self.draining = False
        self.leaving = False
        self.leavers = Leavers()
        self._secret = secret
        self._store = store
        self._directory = directory
        self._hub = hub
        self._rules = rules
        self._admission = Admission(store, hub, ledger)
        self._tasks = Tasks()
        self._steering = Steering(store, hub, rules, self._tasks)
        self._conversations = Conversations(Rows(store.runner), store, self._steering, self._tasks)
        self._producers = Producers(name, store, hub, hot, rules, self._tasks, self._steering.orphaned)
        self._steering.producers = self._producers
        self.roll = Roll(hub, self._producers)
        self._intake = Intake(store, hub, self._producers)
        heirs = Heirs(name, models, store, self._producers, rules.lease)
        hub.succeed = heirs.succeed
        self._memory = ledger.memory
        self._tasks.spawn(self._memory.watch())
        self._tasks.spawn(sweep_for_ever(heirs, directory, secret))

    @property
    def secret(self) -> bytes:
        """The key that makes the caller's idempotent ids, the same on all nodes."""
        return self._admission.secret(self._secret)

    def down_for(self, sid: str | None = None) -> float:
        """Return the seconds since that session's store (or any) was last reached; 0 while it can be."""
        return self._directory.down_for(sid)

    def levels(self) -> Levels:
        """Say how things stand here, for whoever watches over the node."""
        return self._producers.levels(self.down_for(), self._memory.taken, self.draining)

    async def start(
        self,
        sid: str,
        request: Request,
        options: Options,
        digest: str,
        *,
        fresh: bool,
        echo: dict[str, Any] | None = None,
    ) -> bool:
        """Start a session; return whether it is new.

        With a `fresh` sid nobody can have started it before, so the upstream is asked at once, not after
        Redis' answer. `echo` is for `spec`.
        Raise `UnknownModel`, `Conflict`, `Busy`, `Gone`, `RateLimited` or `Draining`.
        """
        if self.draining:
            raise Draining()
        there = await self._admission.start(sid, 2 * self._rules.lease, fresh)
        upstream, wanted = self.models.resolve(request)
        # The owner is this very call: it may ask again after a lost answer, a second call may not.
        owner = f"{self.name}:{secrets.token_hex(4)}"
        async with self._conversations.place(sid, options, there) as created:
            spec = self._rules.spec(request, options, self.models.takeover(request), created, echo)
            who = Identity(sid, owner, spec, digest)
            producer, follower = self._producers.prepare(who)
            if early := fresh and not self.down_for(sid):
                producer.start(upstream, wanted)
            try:
                epoch = await self._created(who)
            except BaseException:
                if early:
                    producer.abandon()
                raise
            if epoch is None:
                return False
        if not early:
            producer.start(upstream, wanted)
        self._producers.begin(producer, follower, epoch)
        return True

    async def _created(self, who: Identity) -> int | None:
        """Create the session; return its epoch, or None if it is there already."""
        flag, epoch = await self._store.create(who, self._rules.lease)
        if flag in (Flag.CONFLICT, Flag.GONE):
            raise Conflict() if flag is Flag.CONFLICT else Gone()
        return None if flag is Flag.EXISTS else epoch

    def spec(self, seat: Seat) -> Spec:
        """Return what was fixed when the session started."""
        spec = self._hub.spec(seat.tail.sid)
        if spec is None:
            raise Gone()
        return spec

    async def conversation(self, name: str) -> str:
        """Return the id of the newest session of a conversation of the caller's; raise `NotFound`."""
        CALLER.get().demand_known()
        return await self._conversations.newest(name)

    async def seat(self, sid: str, after: Cursor | None) -> Seat:
        """Find where to read on after `after`; one that is ahead gets 2 s to become true.

        Raise `NotFound`, `Gone` or `Draining`.
        """
        if self.draining:
            raise Draining()
        tail = await self._hub.tail(sid)
        self._admission.read(tail)
        if after is None:
            return Seat(tail, Cursor(tail.log.epoch, 0))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CATCH_UP
        while not tail.log.holds(after):
            ahead = after.seq > tail.log.head or after.epoch > tail.log.epoch
            if not ahead or self._hub.look(sid) >= deadline:
                return Seat(tail, Cursor(tail.log.epoch, 0), "ahead" if ahead else "diverged")
            if loop.time() > deadline + self._rules.grace:
                raise StoreUnavailable()  # a node that cannot ask does not know what the log holds
            await asyncio.sleep(0.02)
        return Seat(tail, after)

    def join(self, seat: Seat, dialect: Dialect, sink: Sink, **facts: Any) -> Viewer:
        """Attach a viewer: the `session` notice, a `reset` if it must begin anew, then the log."""
        tail, log = seat.tail, seat.tail.log
        viewer = tail.join(dialect, sink, self._rules.send_timeout)
        reset = seat.reset or (None if log.holds(seat.cursor) else "diverged")
        viewer.notify("session", **snapshot.notice(tail, self._hub.model(tail.sid)), **facts)
        viewer.position = seat.cursor.seq
        if reset is not None:
            viewer.reset(reset, log.epoch)
        viewer.push()
        return viewer

    async def control(self, sid: str, action: Action) -> dict[str, Any]:
        """Pause, resume or abort; asked twice, it answers twice the same."""
        counted = await self._admission.control(sid, action)
        answer = await self._steering.control(sid, action)
        if counted is not None and not answer["paused"]:
            await self._admission.uncount(counted, sid)
        return answer

    async def owner(self, sid: str, right: Right) -> str | None:
        """Return whose session it is, to a caller who has that right there."""
        return await self._admission.owner(right, sid)

    async def push(self, sid: str, head: Head, pieces: AsyncGenerator[bytes, None]) -> dict[str, Any]:
        """Take a body of a session that is fed from outside; return where the log stands with it."""
        await self._admission.check(Right.CONTROL, sid)
        return await self._intake.push(sid, head, pieces)

    async def delete(self, sid: str) -> None:
        """Abort if live, wait for the upstream to be closed, and wipe the log for good."""
        await self._admission.control(sid, Action.ABORT)
        await self._steering.delete(sid)

    async def session(self, sid: str) -> dict[str, Any]:
        """Return the session object."""
        await self._admission.check(Right.READ, sid)
        read = await self._hub.found(sid)
        await self._hub.present(sid, read)
        return snapshot.session(sid, read, await self._store.viewers(sid))

    async def sessions(self, offset: int, count: int) -> list[dict[str, Any]]:
        """Return the recent sessions of everybody, newest first, without their text."""
        self._admission.operator()
        sids = await self._directory.recent(offset, count)
        reads = await asyncio.gather(*map(self._store.peek, sids))
        return [
            snapshot.summary(sid, read)
            for sid, read in zip(sids, reads, strict=True)
            if read.meta is not None and not read.meta.gone
        ]

    async def drain(self, seconds: float) -> None:
        """Take no new sessions, send the clients elsewhere, and let what runs end; then end it.

        Clients leave each at its own time, lest they all knock at the next node at once. Asked again, it
        does nothing.
        """
        if self.draining:
            return
        self.draining = self.leaving = True
        spread = min(SPREAD, seconds / 4)
        self.leavers.tell(spread)
        await asyncio.gather(self._producers.drain(seconds), asyncio.sleep(spread))

    async def aclose(self) -> None:
        """Stop every task; leases of what still ran are given back."""
        await self._producers.release()
        await self._tasks.aclose()
        await self._hub.aclose()
