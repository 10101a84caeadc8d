"""What is asked of Redis: commands of one slot that go together, and what becomes of their replies."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from redis.exceptions import OutOfMemoryError

from server.errors import StoreUnavailable
from server.session.link import Command, Reply


def checked(replies: Sequence[Reply]) -> Sequence[Reply]:
    """Return the replies; raise `StoreUnavailable` if one is a refusal."""
    for reply in replies:
        if isinstance(reply, OutOfMemoryError):
            raise StoreUnavailable("The store is full.")
        if isinstance(reply, Exception):
            raise StoreUnavailable() from reply
    return replies


class Job(Protocol):
    """Commands on keys of the slot of `key`; asked for them only when a flight leaves."""

    @property
    def key(self) -> str:
        """What the slot is made from."""

    def commands(self) -> Sequence[Command]:
        """Return the commands to send now; none means that there is nothing to do any more."""

    def settle(self, replies: Sequence[Reply]) -> None:
        """Take one reply a command."""

    def lost(self) -> None:
        """Learn that the connection broke: the outcome is unknown."""


class Call:
    """A job that is a future: commands known in advance, replies awaited."""

    def __init__(self, key: str, commands: Sequence[Command]) -> None:
        self.key = key
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


class Note:
    """A job whose outcome is nobody's concern; it may be submitted again."""

    def __init__(self, key: str, *commands: Command) -> None:
        self.key = key
        self._commands = commands

    def commands(self) -> Sequence[Command]:
        """Return the commands."""
        return self._commands

    def settle(self, replies: Sequence[Reply]) -> None:
        """Take no notice."""

    def lost(self) -> None:
        """Take no notice."""


def nobody() -> None:
    """Be told, and do nothing."""


class Carrier(Protocol):
    """Carries jobs to Redis: to one server (`Pipeline`) or to the masters of a cluster (`Cluster`).

    `reconnected` is called whenever what was acknowledged before may be lost.
    """

    reconnected: Callable[[], None]

    def submit(self, job: Job, urgent: bool = False) -> None:
        """Queue a job for the next flight; an urgent one does not wait for company."""

    async def call(self, key: str, *commands: Command) -> Sequence[Reply]:
        """Send commands and return their replies; raise `StoreUnavailable` if they got lost."""

    async def call_all(self, command: Command) -> Sequence[Reply]:
        """Send a command to every server; return the replies; raise `StoreUnavailable` if none."""

    def down_for(self, key: str | None = None) -> float:
        """Return the seconds since the server of `key` (or any server) could last be reached."""

    def back_for(self, key: str) -> float:
        """Return the seconds since that server came back; for ever if it has not been away."""

    async def aclose(self) -> None:
        """Stop, and fail what waits."""
