"""A viewer: one client's cursor on one tail, not a queue.

History, live tokens, catching up and slow reading are the same step, "write what lies between my
cursor and the limit". A viewer whose socket is full goes on in a task of its own, at its own pace.
"""

import asyncio
import random
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

from server.callers import CALLER
from server.counts import COUNTS
from server.session.log import Log

PAGE_EVENTS = 512
PAGE_BYTES = 64 * 1024
FEW = 8
"""Events that are written at once, whatever their size."""
RETRY_MS = (1000, 3000)
"""Within these, at random, a client is told to come back: not all of a node's at once."""


class Ending(StrEnum):
    """Why a viewer's delivery ended."""

    FINAL = "final"
    GONE = "gone"
    MOVING = "moving"
    SLOW = "slow"
    LOST = "lost"


class Encoding(Protocol):
    """One session's log in one wire format, encoded once and shared by its viewers.

    `restarts` says whether a client of the format can be told to drop what it holds and begin anew.
    """

    restarts: bool

    def slice(self, log: Log, start: int, stop: int) -> bytes:
        """Return events `start + 1 … stop` as bytes."""

    def notice(self, kind: str, facts: Mapping[str, Any]) -> bytes:
        """Return a notice as bytes; empty where the format has none."""


class Dialect(Protocol):
    """A wire format: makes the encoding of one session's log. Equal dialects share an encoding."""

    def encoding(self, sid: str) -> Encoding:
        """Return a fresh encoding for a log."""


class Sink(Protocol):
    """Where a viewer's bytes go: a connection that takes whole pieces at once."""

    def write(self, data: bytes) -> None:
        """Take bytes without blocking; a sink that has lost its client ignores them."""

    @property
    def full(self) -> bool:
        """Whether the client does not keep up."""

    async def drain(self) -> None:
        """Wait until the client has caught up; raise `ConnectionError` when it is gone."""


class Readable(Protocol):
    """What a viewer needs of its tail."""

    sid: str
    log: Log

    @property
    def limit(self) -> int:
        """The highest seq that may be delivered now."""

    def slice(self, encoding: Encoding, start: int, stop: int) -> bytes:
        """Return events `start + 1 … stop` as bytes."""

    def leave(self, viewer: "Viewer") -> None:
        """Remove a viewer."""


class Viewer:
    """One client's cursor on one tail; `ended` resolves when there is nothing more to deliver.

    `held` stops this viewer alone; `frozen` stops it until the session is resumed, because its client
    was told that the pause is in force.
    """

    __slots__ = (
        "_catching_up",
        "encoding",
        "ended",
        "follows",
        "frozen",
        "held",
        "position",
        "sink",
        "tail",
        "timeout",
    )

    def __init__(self, tail: Readable, encoding: Encoding, sink: Sink, timeout: float) -> None:
        self.tail = tail
        self.encoding = encoding
        self.sink = sink
        self.timeout = timeout
        self.follows = CALLER.get().follows
        self.position = 0
        self.held = False
        self.frozen = False
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._catching_up: asyncio.Task[None] | None = None

    def push(self) -> None:
        """Write what may be delivered now, unless the client is still busy with what came before."""
        if self._catching_up is not None or self.ended.done():
            return
        tail, sink, position = self.tail, self.sink, self.position
        while not (self.held or self.frozen) and position < (limit := tail.limit):
            if sink.full:
                self._catching_up = asyncio.create_task(self._drain())
                return
            stop = limit if limit - position <= FEW else self._page(position, limit)
            sink.write(tail.slice(self.encoding, position, stop))
            self.position = position = stop
        if tail.log.closed and position == tail.log.head:
            self.end(Ending.FINAL)

    def _page(self, position: int, limit: int) -> int:
        """Return where a page ends that begins behind `position`: so many events, or so many bytes."""
        size, stop = 0, min(limit, position + PAGE_EVENTS)
        for seq, line in enumerate(self.tail.log.lines[position:stop], position + 1):
            size += len(line)
            if size >= PAGE_BYTES:
                return seq
        return stop

    @property
    def ready(self) -> bool:
        """Whether a push would write something."""
        idle = self._catching_up is None and not self.ended.done()
        return idle and not self.still and self.position < self.tail.limit

    @property
    def still(self) -> bool:
        """Whether nothing may be written, whatever the log holds."""
        return self.held or self.frozen

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                await self.sink.drain()
        except TimeoutError:
            self.end(Ending.SLOW)
        except (ConnectionError, OSError):
            self.end(Ending.LOST)
        self._catching_up = None
        self.push()

    def notify(self, kind: str, **facts: Any) -> None:
        """Write a notice."""
        if not self.ended.done() and (data := self.encoding.notice(kind, facts)):
            self.sink.write(data)

    def reset(self, reason: str, epoch: int) -> None:
        """Begin anew; a client who holds something, in a format that cannot say so, is cut off."""
        held, self.position = self.position, 0
        if held or self.encoding.restarts:
            self.notify("reset", reason=reason, epoch=epoch)
        if held and not self.encoding.restarts:
            self.end(Ending.LOST)

    def end(self, ending: Ending) -> None:
        """Deliver nothing more."""
        if not self.ended.done():
            self.ended.set_result(ending)
            COUNTS.left[ending.value] += 1

    def move(self) -> None:
        """Send the client to another node."""
        self.notify("moving", retry=random.randint(*RETRY_MS))
        self.end(Ending.MOVING)

    def leave(self) -> None:
        """Take the viewer off its tail."""
        if self._catching_up is not None:
            self._catching_up.cancel()
        self.tail.leave(self)
