"""All that a transport may ask of a node: start, sit down, control, look, delete."""

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from server.errors import Conflict, Draining, Gone
from server.events import Cursor
from server.session import snapshot
from server.session.answers import Flag
from server.session.conversations import Conversations
from server.session.directory import Directory
from server.session.heirs import Heirs
from server.session.hub import Hub
from server.session.intake import Intake
from server.session.jobs import Carrier
from server.session.levels import lookout
from server.session.producers import Producers, Rules, Tasks
from server.session.rows import Rows
from server.session.state import Action, Options, Spec
from server.session.steering import Steering
from server.session.store import Identity, Store
from server.session.sweeper import sweep_for_ever
from server.session.tail import Tail
from server.session.viewer import Dialect, Sink, Viewer
from server.upstream import Head, Models, Request, Takeover

CATCH_UP = SPREAD = 2.0


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
    """One server process's sessions. `models` says who serves what; `secret` makes idempotent ids.

    Each connection that delivers puts a call into `leavers` that tells its client to go elsewhere.
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
    ) -> None:
        self.name = name
        self.models = models
        self.secret = secret
        self.draining = False
        self.leavers: set[Callable[[], None]] = set()
        self._store = store
        self._directory = directory
        self._hub = hub
        self._rules = rules
        self._tasks = Tasks()
        self._steering = Steering(store, hub, rules, self._tasks)
        self._conversations = Conversations(Rows(store.runner), store, self._steering, self._tasks)
        self._producers = Producers(name, store, hub, hot, rules, self._tasks, self._steering.orphaned)
        self._steering.producers = self._producers
        self.levels = lookout(hub, self._producers, self)
        self._intake = Intake(store, hub, self._producers)
        heirs = Heirs(name, models, store, self._producers, 5 * rules.lease)
        hub.succeed = heirs.succeed
        self._tasks.spawn(sweep_for_ever(heirs, directory, secret))

    def down_for(self, sid: str | None = None) -> float:
        """Return the seconds since that session's store (or any) was last reached; 0 while it can be."""
        return self._directory.down_for(sid)

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
        Raise `UnknownModel`, `Conflict`, `Busy`, `Gone` or `Draining`.
        """
        if self.draining:
            raise Draining()
        upstream, wanted = self.models.resolve(request)
        # The owner is this very call: it may ask again after a lost answer, a second call may not.
        owner = f"{self.name}:{secrets.token_hex(4)}"
        async with self._conversations.place(sid, options, fresh) as created:
            who = Identity(sid, owner, self._spec(request, options, echo, created), digest)
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
        if flag is Flag.CONFLICT:
            raise Conflict()
        if flag is Flag.GONE:
            raise Gone()
        return None if flag is Flag.EXISTS else epoch

    def _spec(
        self, request: Request, options: Options, echo: dict[str, Any] | None, created: int
    ) -> Spec:
        rules, takeover = self._rules, self.models.takeover(request)
        return Spec(
            model=request.model,
            created=created,
            conversation=options.conversation,
            ttl=_chosen(options.ttl, rules.ttl),
            orphan_ttl=options.orphan_ttl,
            hold_limit=_chosen(options.hold_limit, rules.hold_limit),
            pause_ttl=_chosen(options.pause_ttl, rules.pause_ttl),
            echo=echo,
            takeover=takeover,
            request=None if takeover is Takeover.ERROR else request,
        )

    def spec(self, seat: Seat) -> Spec:
        """Return what was fixed when the session started."""
        spec = self._hub.spec(seat.tail.sid)
        if spec is None:
            raise Gone()
        return spec

    async def conversation(self, name: str) -> str:
        """Return the id of a conversation's newest session; raise `NotFound`."""
        return await self._conversations.newest(name)

    async def seat(self, sid: str, after: Cursor | None) -> Seat:
        """Find where to read on after `after`; one that is ahead gets 2 s to become true.

        Raise `NotFound`, `Gone` or `Draining`.
        """
        if self.draining:
            raise Draining()
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
        return await self._steering.control(sid, action)

    async def push(self, sid: str, head: Head, pieces: AsyncGenerator[bytes, None]) -> dict[str, Any]:
        """Take a body of a session that is fed from outside; return where the log stands with it."""
        return await self._intake.push(sid, head, pieces)

    async def delete(self, sid: str) -> None:
        """Abort if live, wait for the upstream to be closed, and wipe the log for good."""
        await self._steering.delete(sid)

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
        self.draining = True
        loop, spread = asyncio.get_running_loop(), min(SPREAD, seconds / 4)
        for leave in list(self.leavers):
            loop.call_later(random.uniform(0.0, spread), leave)
        await asyncio.gather(self._producers.drain(seconds), asyncio.sleep(spread))

    async def aclose(self) -> None:
        """Stop every task; leases of what still ran are given back."""
        await self._producers.release()
        await self._tasks.aclose()
        await self._hub.aclose()


def _chosen(option: Any, setting: Any) -> Any:
    return setting if option is None else option
