"""One connection to Redis on which everybody's commands travel together, a flight at a time.

Whatever is asked for while a flight is under way goes with the next one; an idle pipeline sends at
once. A connection that breaks makes every waiting job `lost`: what was sent may or may not have
happened, and nothing is sent again in silence.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from math import inf

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError, RedisError

from server.counts import COUNTS
from server.session.jobs import Call, Job, nobody
from server.session.link import Command, Link, Reply
from server.session.pace import Pace
from server.traces import trace

log = logging.getLogger(__name__)

FLIGHT_TIMEOUT = 5.0
FLIGHT_JOBS = 4096
BACKOFF = (0.02, 0.05, 0.1, 0.2, 0.5)


class Pipeline:
    """A connection, its queue of jobs and the flight that is under way.

    `connect` makes a new connection, `connected` is awaited on it before it carries any job, and
    `reconnected` is called: what was acknowledged on the one before may be lost. With a `pace`, flights
    wait for company while the node is busy.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        connected: Callable[[AbstractConnection], Awaitable[None]],
        pace: Pace | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect = connect
        self._connected = connected
        self._pace = pace
        self._jobs: deque[Job] = deque()
        self._flight: list[tuple[Job, int]] = []
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._due: asyncio.Handle | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self.down_since: float | None = None
        self.reconnected_at: float | None = None
        self.reconnected: Callable[[], None] = nobody

    def submit(self, job: Job, urgent: bool = False) -> None:
        """Queue a job for the next flight; an urgent one does not wait for company."""
        if self._closed:
            return job.lost()
        self._jobs.append(job)
        return self._arrange(urgent)

    async def call(self, key: str, *commands: Command) -> Sequence[Reply]:
        """Send commands and return their replies; raise `StoreUnavailable` if they got lost."""
        job = Call(key, commands)
        self.submit(job)
        return await job.replies

    async def call_all(self, command: Command) -> Sequence[Reply]:
        """Send a command to the server; return its one reply; raise `StoreUnavailable`."""
        return await self.call("", command)

    def down_for(self, key: str | None = None) -> float:
        """Return the seconds since the server could last be reached; 0 while it can."""
        return 0.0 if self.down_since is None else self._loop.time() - self.down_since

    def back_for(self, key: str) -> float:
        """Return the seconds since the server came back; for ever if it has not been away."""
        return inf if self.reconnected_at is None else self._loop.time() - self.reconnected_at

    async def aclose(self) -> None:
        """Stop flying, fail what waits and close the connection."""
        self._closed = True
        for handle in (self._due, self._overdue):
            if handle is not None:
                handle.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self._lose()
        if self._link is not None:
            await self._link.aclose()

    def _arrange(self, urgent: bool = False) -> None:
        """See to it that a flight leaves, unless one is under way: what waits goes when it is back."""
        if urgent and self._due is not None and self._link is not None:
            self._due.cancel()
            self._due = None
        if self._due is not None or self._flight or self._connecting is not None or self._closed:
            return
        wait = self._not_before - self._loop.time() if self._link is None else 0.0
        if self._pace is not None and wait <= 0.0 and not urgent:
            wait = self._pace.wait()
        # At once is at the end of this turn of the loop: all that it asks for goes together.
        leave = self._leave
        self._due = self._loop.call_later(wait, leave) if wait > 0.0 else self._loop.call_soon(leave)

    def _leave(self) -> None:
        self._due = None
        if self._link is None:
            # The connection is everybody's, not that of the request that comes first.
            self._connecting = self._loop.create_task(self._reconnect(), context=Context())
            return None
        flown: list[Command] = []
        for _ in range(min(FLIGHT_JOBS, len(self._jobs))):
            job = self._jobs.popleft()
            if commands := job.commands():
                self._flight.append((job, len(commands)))
                flown += commands
        if not self._flight:
            return self._arrange() if self._jobs else None
        if self._pace is not None:
            self._pace.leave()
        self._overdue = self._loop.call_later(FLIGHT_TIMEOUT, self._link.close)
        self._link.send(flown, len(flown))
        return None

    def _land(self, replies: list[Reply]) -> None:
        flight, self._flight = self._flight, []
        self._rest()
        if self._pace is not None:
            self._pace.land(len(flight))
        if self.down_since is not None:
            self.reconnected_at = self._loop.time()
        self._failures, self.down_since = 0, None
        at = 0
        for job, count in flight:
            try:
                job.settle(replies[at : at + count])
            except Exception as error:
                log.error("a reply could not be taken: %s", trace(error))
            at += count
        if self._link is not None and any(isinstance(reply, ReadOnlyError) for reply in replies):
            self._link.close()
        elif self._jobs:
            self._arrange()

    async def _reconnect(self) -> None:
        connection = self._connect()
        try:
            async with asyncio.timeout(FLIGHT_TIMEOUT):
                await connection.connect()  # type: ignore[no-untyped-call]
                await self._connected(connection)
            self._link = Link(connection, self._land, self._broken)
        except (RedisError, OSError, TimeoutError):
            await connection.disconnect(nowait=True)
            self._connecting = None
            self._broken()
            return
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._connecting = None
        self.reconnected()
        self._arrange()

    def _broken(self) -> None:
        now = self._loop.time()
        COUNTS.lost_connections += self._link is not None
        self._link = None
        self._rest()
        if self.down_since is None:
            self.down_since = now
        self._not_before = now + BACKOFF[min(self._failures, len(BACKOFF) - 1)]
        self._failures += 1
        self._lose()

    def _rest(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _lose(self) -> None:
        lost = [job for job, _ in self._flight] + list(self._jobs)
        self._flight.clear()
        self._jobs.clear()
        for job in lost:
            job.lost()
