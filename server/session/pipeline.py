"""One connection to Redis on which everybody's commands travel together.

Whatever is asked for while a round trip is in flight goes with the next one; an idle pipeline sends
at once, no timer. A connection that breaks makes every waiting job `lost`: what was sent may or may
not have happened, and nothing is sent again in silence.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError

from server.errors import StoreUnavailable

Command = tuple[Any, ...]
Reply = Any
"""What Redis answered; an error reply is the exception itself."""

FLIGHT_TIMEOUT = 5.0
FLIGHT_JOBS = 512
BACKOFF = (0.02, 0.05, 0.1, 0.2, 0.5)


def checked(replies: Sequence[Reply]) -> Sequence[Any]:
    """Return the replies; raise `StoreUnavailable` if one is a refusal."""
    for reply in replies:
        if isinstance(reply, OutOfMemoryError):
            raise StoreUnavailable("The store is full.")
        if isinstance(reply, Exception):
            raise StoreUnavailable() from reply
    return replies


class Job(Protocol):
    """Commands that go together; asked for them only when a flight leaves."""

    def commands(self) -> Sequence[Command]:
        """Return the commands to send now; none means that there is nothing to do any more."""

    def settle(self, replies: Sequence[Reply]) -> None:
        """Take one reply a command."""

    def lost(self) -> None:
        """Learn that the connection broke: the outcome is unknown."""


class Call:
    """A job that is a future: commands known in advance, replies awaited."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self.replies: asyncio.Future[Sequence[Reply]] = asyncio.get_running_loop().create_future()

    def commands(self) -> Sequence[Command]:
        """Return the commands, unless nobody waits for them any more."""
        return () if self.replies.done() else self._commands

    def settle(self, replies: Sequence[Reply]) -> None:
        """Hand the replies to whoever waits."""
        if not self.replies.done():
            self.replies.set_result(replies)

    def lost(self) -> None:
        """Fail whoever waits."""
        if not self.replies.done():
            self.replies.set_exception(StoreUnavailable())


def _nobody() -> None:
    """Be told, and do nothing."""


class Pipeline:
    """A connection, its queue of jobs and the task that flies them.

    `connect` makes a new connection, `connected` is awaited on it before it carries any job, and
    `reconnected` is called: what was acknowledged on the one before may be lost.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        connected: Callable[[AbstractConnection], Awaitable[None]],
    ) -> None:
        self._connect = connect
        self._connected = connected
        self._jobs: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._task = asyncio.create_task(self._run(), name="redis-pipeline")
        self._failures = 0
        self.down_since: float | None = None
        self.reconnected_at: float | None = None
        self.reconnected: Callable[[], None] = _nobody

    def submit(self, job: Job) -> None:
        """Queue a job for the next flight."""
        self._jobs.append(job)
        self._wake.set()

    async def call(self, *commands: Command) -> Sequence[Reply]:
        """Send commands and return their replies; raise `StoreUnavailable` if they got lost."""
        job = Call(commands)
        self.submit(job)
        return await job.replies

    async def aclose(self) -> None:
        """Stop flying, fail what waits and close the connection."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._lose(list(self._jobs))
        await self._disconnect()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._jobs:
                await self._fly()

    async def _fly(self) -> None:
        jobs: list[Job] = []
        try:
            async with asyncio.timeout(FLIGHT_TIMEOUT):
                connection = self._connection or await self._reconnect()
                jobs = [self._jobs.popleft() for _ in range(min(FLIGHT_JOBS, len(self._jobs)))]
                flight = [(job, job.commands()) for job in jobs]
                replies = await _round_trip(connection, [c for _, cs in flight for c in cs])
        except (RedisError, OSError, TimeoutError):
            await self._fail(jobs)
            return
        except asyncio.CancelledError:
            self._lose(jobs)
            raise
        if self.down_since is not None:
            self.reconnected_at = asyncio.get_running_loop().time()
        self._failures, self.down_since = 0, None
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            await self._disconnect()
        _hand_out(flight, replies)

    async def _reconnect(self) -> AbstractConnection:
        connection = self._connect()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await self._connected(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._connection = connection
        self.reconnected()
        return connection

    async def _fail(self, flown: list[Job]) -> None:
        await self._disconnect()
        if self.down_since is None:
            self.down_since = asyncio.get_running_loop().time()
        self._lose(flown + list(self._jobs))
        await asyncio.sleep(BACKOFF[min(self._failures, len(BACKOFF) - 1)])
        self._failures += 1

    def _lose(self, jobs: list[Job]) -> None:
        self._jobs.clear()
        for job in jobs:
            job.lost()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisConnectionError, OSError):
                await connection.disconnect(nowait=True)


def _hand_out(flight: list[tuple[Job, Sequence[Command]]], replies: list[Reply]) -> None:
    at = 0
    for job, commands in flight:
        if commands:
            job.settle(replies[at : at + len(commands)])
            at += len(commands)


async def _round_trip(connection: AbstractConnection, commands: list[Command]) -> list[Reply]:
    if not commands:
        return []
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies: list[Reply] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response(disable_decoding=True))
        except RedisConnectionError:
            raise
        except RedisError as error:
            replies.append(error)
    return replies
