"""A node's open tails: the first who asks for a session opens its tail, the others wait.

Opening is: listen, then look, so that nothing that happens in between is missed. One clock drives
what must not depend on a ring: reading again, taking over lapsed leases, saying who watches, closing
tails that nobody uses.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from math import inf
from typing import Any

from server.errors import Gone, NotFound
from server.events import Cursor
from server.session.answers import Meta, Read
from server.session.commands import control_channel, log_channel
from server.session.directory import Directory
from server.session.doorbell import Doorbell
from server.session.follower import HEALING, Follower
from server.session.jobs import Carrier
from server.session.log import Entry, Log
from server.session.state import Spec
from server.session.store import Identity, Store, stale
from server.session.tail import Tail
from server.session.tasks import Tasks

TICK = 0.05
IDLE = 5.0
ATTEND = 10.0


class Hub:
    """The tails of one node by session id; `succeed(sid)` takes over from a producer that is gone."""

    succeed: Callable[[str], Coroutine[Any, Any, Any]]

    def __init__(
        self,
        store: Store,
        directory: Directory,
        redis: Carrier,
        doorbell: Doorbell,
        node: str,
        lease: float,
    ) -> None:
        self.followers: dict[str, Follower] = {}
        self._store = store
        self._directory = directory
        self._redis = redis
        self._doorbell = doorbell
        self._node = node
        self._lease = lease
        self._opening: dict[str, asyncio.Task[Follower]] = {}
        self._channels: dict[str, str] = {}
        self._attended: dict[str, tuple[int, float]] = {}
        self._tasks = Tasks()
        self._clock = asyncio.create_task(self._run(), name="hub-clock")

    async def tail(self, sid: str) -> Tail:
        """Return the session's tail; raise `NotFound` or `Gone` if there is no session."""
        follower = self.followers.get(sid)
        if follower is None:
            opening = self._opening.get(sid)
            if opening is None:
                opening = self._opening[sid] = asyncio.create_task(self._open(sid))
                opening.add_done_callback(lambda task: self._opened(sid, task))
            follower = await asyncio.shield(opening)
        if follower.gone:
            raise Gone() if follower.meta else await self.absent(sid)
        follower.idle_since = asyncio.get_running_loop().time()
        return follower.tail

    def _opened(self, sid: str, opening: asyncio.Task[Follower]) -> None:
        del self._opening[sid]
        if not opening.cancelled():
            opening.exception()  # whoever waited may have left; then nobody else would look at it

    async def _open(self, sid: str) -> Follower:
        follower = self._make(sid)
        channels = (control_channel(sid), log_channel(sid))
        try:
            self._channels |= dict.fromkeys(channels, sid)
            await self._doorbell.listen(*channels)
            read = await self.found(sid)
            await self.present(sid, read)
        except BaseException:
            self._hang_up(channels)
            raise
        follower.take(read)
        return self.followers.setdefault(sid, follower)

    async def found(self, sid: str) -> Read:
        """Read a session; just after Redis lost what it had, give its producer time to write it anew."""
        while True:
            read = await self._store.read(sid)
            if read.there or await self.settled(sid):
                return read
            await asyncio.sleep(0.05)

    async def settled(self, sid: str) -> bool:
        """Say whether a session that Redis does not hold will not be written anew any more."""
        return self._redis.back_for(sid) > HEALING and await self._directory.age() > HEALING

    async def present(self, sid: str, read: Read) -> Meta:
        """Return the hash of a session that was read; raise `NotFound` or `Gone` if it is not there."""
        if read.meta is None:
            raise await self.absent(sid)
        if read.meta.gone:
            raise Gone()
        return read.meta

    async def absent(self, sid: str) -> NotFound | Gone:
        """Return the error for a session that has no hash: never there, or there no more."""
        return Gone() if await self._directory.known(sid) else NotFound()

    def prepare(self, who: Identity) -> Follower:
        """Return the tail of a session that may start here: nothing to read, its producer feeds it."""
        follower = self._make(who.sid)
        follower.spec = who.spec
        return follower

    def begin(self, follower: Follower, epoch: int) -> None:
        """Open the tail of a session that has started here."""
        sid = follower.tail.sid
        self.followers[sid] = follower
        follower.tail.absorb((Entry(epoch, 1, 1),))
        self._channels[control_channel(sid)] = sid
        self._doorbell.subscribe(control_channel(sid))

    async def inherited(self, sid: str, epoch: int) -> Follower | None:
        """Return the tail of a session that this node has just taken over, in step with Redis.

        None if somebody else was faster with something.
        """
        tail = await self.tail(sid)
        read = await self._store.read(sid)
        log = Log(read.entries)
        if log.top != Cursor(epoch, 0) or read.meta is None:
            return None
        tail.absorb(read.entries)
        if tail.log.top != log.top:
            tail.replace(log)
        tail.mind(read.meta.turn)
        # Its producer feeds it from now on.
        self._hang_up((log_channel(sid),))
        return self.followers[sid]

    def look(self, sid: str) -> float:
        """Have a session's tail read on; return when it was last asked for and came."""
        follower = self.followers.get(sid)
        if follower is None:
            return inf
        follower.ring()
        return follower.seen

    def model(self, sid: str) -> str:
        """Return the model of a session whose tail is open."""
        return spec.model if (spec := self.spec(sid)) else ""

    def pause_ttl(self, sid: str, otherwise: float) -> float:
        """Return how long a pause of that session lasts, as far as this node knows."""
        return spec.pause_ttl if (spec := self.spec(sid)) else otherwise

    def spec(self, sid: str) -> Spec | None:
        """Return what was fixed when a session started, if its tail is open."""
        follower = self.followers.get(sid)
        return follower.spec if follower else None

    def _make(self, sid: str) -> Follower:
        tail = Tail(sid, self._viewers_changed)
        return Follower(tail, self._store, self._redis, self._learned, self._lease + 0.5)

    def rung(self, channel: str) -> None:
        """Hear the doorbell."""
        sid = self._channels.get(channel)
        if follower := self.followers.get(sid or ""):
            follower.ring()

    def follow(self, sid: str) -> None:
        """Go on without a producer of this node: hear the log's bell too, if the tail is still open."""
        if sid in self.followers:
            self._channels[log_channel(sid)] = sid
            self._doorbell.subscribe(log_channel(sid))

    def _learned(self, follower: Follower) -> None:
        meta, tail = follower.meta, follower.tail
        if follower.learned is not None:
            follower.learned()
        elif meta and not meta.gone and not tail.log.closed and stale(meta.lease, self._lease):
            self._tasks.spawn(self.succeed(tail.sid))

    def _viewers_changed(self, tail: Tail) -> None:
        follower = self.followers.get(tail.sid)
        if follower is not None:
            follower.idle_since = asyncio.get_running_loop().time()
            if len(tail.viewers) <= 1:
                self._attend(follower)

    def _attend(self, follower: Follower) -> None:
        tail, now = follower.tail, asyncio.get_running_loop().time()
        spec = follower.spec
        if spec is None:
            return
        viewers = len(tail.viewers)
        self._attended[tail.sid] = (viewers, now)
        self._tasks.spawn(self._store.attend(tail.sid, self._node, viewers, 3 * ATTEND, spec.ttl))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = asyncio.get_running_loop().time()
            for follower in list(self.followers.values()):
                self._mind(follower, now)

    def _mind(self, follower: Follower, now: float) -> None:
        tail = follower.tail
        if now >= follower.due and follower.heal is None:
            follower.due = now + 1.0
            follower.ring()
        viewers, at = self._attended.get(tail.sid, (0, 0.0))
        ttl = follower.spec.ttl if follower.spec else ATTEND
        stale = viewers and now - at >= min(ATTEND, ttl / 3)
        if stale or (viewers != len(tail.viewers) and now - at >= 1.0):
            self._attend(follower)
        if not tail.viewers and follower.heal is None and now - follower.idle_since >= IDLE:
            self.close(tail.sid)

    def close(self, sid: str) -> None:
        """Forget a tail."""
        if (follower := self.followers.pop(sid, None)) is not None:
            follower.tail.close()
            self._attended.pop(sid, None)
            self._hang_up((control_channel(sid), log_channel(sid)))

    def _hang_up(self, channels: tuple[str, ...]) -> None:
        self._doorbell.leave(*channels)
        for channel in channels:
            self._channels.pop(channel, None)

    async def aclose(self) -> None:
        """Close every tail."""
        self._clock.cancel()
        with suppress(asyncio.CancelledError):
            await self._clock
        for sid in list(self.followers):
            self.close(sid)
        await self._tasks.finish()
