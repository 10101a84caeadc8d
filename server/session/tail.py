"""A tail: one session's log on one node, and the viewers that read it.

A viewer is a cursor on the tail, not a queue: history, live tokens, catching up and slow reading are
the same step, "write what lies between my cursor and the limit". When the log grows the tail sweeps
its viewers once; one whose socket is full goes on in a task of its own, at its own pace.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from server.events import Cursor
from server.session.answers import Shut
from server.session.log import Absorbed, Entry, Log

PAGE_EVENTS = 512
SLICE_VIEWERS = 500


class Ending(StrEnum):
    """Why a viewer's delivery ended."""

    FINAL = "final"
    GONE = "gone"
    MOVING = "moving"
    SLOW = "slow"
    LOST = "lost"


class Encoding(Protocol):
    """One session's log in one wire format, encoded once and shared by its viewers."""

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


class Viewer:
    """One client's cursor on one tail; `ended` resolves when there is nothing more to deliver.

    `held` stops this viewer alone; `frozen` stops it until the session is resumed, because its client
    was told that the pause is in force.
    """

    __slots__ = (
        "_catching_up",
        "encoding",
        "ended",
        "frozen",
        "held",
        "position",
        "sink",
        "tail",
        "timeout",
    )

    def __init__(self, tail: "Tail", encoding: Encoding, sink: Sink, timeout: float) -> None:
        self.tail = tail
        self.encoding = encoding
        self.sink = sink
        self.timeout = timeout
        self.position = 0
        self.held = False
        self.frozen = False
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._catching_up: asyncio.Task[None] | None = None

    def push(self) -> None:
        """Write what may be delivered now, unless the client is still busy with what came before."""
        if self._catching_up is None and not self.ended.done():
            self._write_pages()

    def _write_pages(self) -> None:
        tail = self.tail
        while not self.still and self.position < (limit := tail.limit):
            if self.sink.full:
                self._catch_up()
                return
            stop = min(limit, self.position + PAGE_EVENTS)
            self.sink.write(tail.slice(self.encoding, self.position, stop))
            self.position = stop
        if tail.log.closed and self.position == tail.log.head:
            self.end(Ending.FINAL)

    @property
    def ready(self) -> bool:
        """Whether a push would write something."""
        idle = self._catching_up is None and not self.ended.done()
        return idle and not self.still and self.position < self.tail.limit

    @property
    def still(self) -> bool:
        """Whether nothing may be written, whatever the log holds."""
        return self.held or self.frozen

    def _catch_up(self) -> None:
        self._catching_up = asyncio.create_task(self._drain())

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

    def end(self, ending: Ending) -> None:
        """Deliver nothing more."""
        if not self.ended.done():
            self.ended.set_result(ending)

    def leave(self) -> None:
        """Take the viewer off its tail."""
        if self._catching_up is not None:
            self._catching_up.cancel()
        self.tail.leave(self)


def _nobody() -> None:
    """Be told, and do nothing."""


class Tail:
    """The log's readable part, its gate, and its viewers.

    `changed` is called when viewers come or go, `turned` when the gate was shut or lifted.
    """

    def __init__(self, sid: str, changed: Callable[["Tail"], None]) -> None:
        self.sid = sid
        self.log = Log()
        self.gate: int | None = None
        self.viewers: dict[Viewer, None] = {}
        self.turned: Callable[[], None] = _nobody
        self._changed = changed
        self._encodings: dict[Dialect, Encoding] = {}
        self._slices: dict[tuple[int, int, int], bytes] = {}
        self._sweeping = False
        self._lapse: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """The highest seq that may be delivered now."""
        head = self.log.head
        return head if self.gate is None else min(head, self.gate)

    def absorb(self, entries: Sequence[Entry]) -> Absorbed:
        """Take entries that Redis holds; deliver what they add."""
        outcome, grew = Absorbed.KNOWN, False
        for entry in entries:
            outcome = self.log.absorb(entry)
            grew = grew or outcome is Absorbed.GREW
            if outcome in (Absorbed.HOLE, Absorbed.DIVERGED):
                break
        if grew:
            self.sweep()
        return outcome

    def shut(self, gate: Shut | None) -> None:
        """Shut the gate or lift it, and tell the viewers, after what they may still read."""
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        if gate is not None:
            loop = asyncio.get_running_loop()
            self._lapse = loop.call_later(gate.left, self.shut, None)
        seq = gate.seq if gate else None
        if seq == self.gate:
            return
        self.gate = seq
        for viewer in list(self.viewers):
            if seq is not None:
                viewer.push()
                viewer.notify("paused", gate=seq)
            else:
                viewer.frozen = False
                viewer.notify("resumed")
                viewer.push()
        self.turned()

    def sweep(self) -> None:
        """Push every viewer once, soon."""
        if not self._sweeping and self.viewers:
            self._sweeping = True
            asyncio.get_running_loop().call_soon(self._sweep, list(self.viewers))

    def _sweep(self, viewers: list[Viewer]) -> None:
        now, rest = viewers[:SLICE_VIEWERS], viewers[SLICE_VIEWERS:]
        for viewer in now:
            viewer.push()
        if rest:
            asyncio.get_running_loop().call_soon(self._sweep, rest)
            return
        self._sweeping = False
        self._slices.clear()
        # While a long sweep went on in slices, the log may have grown or viewers joined.
        if any(viewer.ready for viewer in self.viewers):
            self.sweep()

    def slice(self, encoding: Encoding, start: int, stop: int) -> bytes:
        """Return events `start + 1 … stop` as bytes, made once for all viewers that stand there."""
        key = (id(encoding), start, stop)
        data = self._slices.get(key)
        if data is None:
            data = self._slices[key] = encoding.slice(self.log, start, stop)
        return data

    def join(self, dialect: Dialect, sink: Sink, timeout: float) -> Viewer:
        """Add a viewer, which reads nothing until it is pushed."""
        encoding = self._encodings.get(dialect)
        if encoding is None:
            encoding = self._encodings[dialect] = dialect.encoding(self.sid)
        viewer = Viewer(self, encoding, sink, timeout)
        self.viewers[viewer] = None
        self._changed(self)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer."""
        if self.viewers.pop(viewer, viewer) is None:
            self._changed(self)

    def replace(self, log: Log, reason: str) -> None:
        """Go on with another log: whoever stands where it has nothing drops all and reads it anew."""
        old, self.log = self.log, log
        self._encodings_anew()
        for viewer in list(self.viewers):
            if not log.holds(Cursor(old.epoch_at(viewer.position), viewer.position)):
                viewer.position = 0
                viewer.notify("reset", reason=reason, epoch=log.epoch)
        self.sweep()

    def _encodings_anew(self) -> None:
        self._slices.clear()
        for dialect, old in list(self._encodings.items()):
            new = self._encodings[dialect] = dialect.encoding(self.sid)
            for viewer in self.viewers:
                if viewer.encoding is old:
                    viewer.encoding = new

    def end(self, ending: Ending) -> None:
        """End every viewer's delivery."""
        if self._lapse is not None:
            self._lapse.cancel()
        for viewer in list(self.viewers):
            viewer.end(ending)
