"""A tail: one session's log on one node, its gate, and the viewers that read it.

When the log grows the tail sweeps its viewers once; the bytes are made once for all of them.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from server.session.answers import Shut, Turn
from server.session.jobs import nobody
from server.session.log import Absorbed, Entry, Log
from server.session.viewer import Dialect, Encoding, Ending, Sink, Viewer

AT_ONCE = 8
SLICE_VIEWERS = 500
SLICES = 16
"""Slices that are kept until the next sweep; of a log that has ended none may come."""


class Tail:
    """The log's readable part, its gate, and its viewers.

    `changed` is called when viewers come or go, `turned` when the gate was shut or lifted.
    """

    def __init__(self, sid: str, changed: Callable[["Tail"], None]) -> None:
        self.sid = sid
        self.log = Log()
        self.turn = Turn()
        self.gate: int | None = None
        self.viewers: dict[Viewer, None] = {}
        self.turned: Callable[[], None] = nobody
        self._changed = changed
        self._encodings: dict[Dialect, Encoding] = {}
        self._slices: dict[tuple[int, int, int], bytes] = {}
        self._sweeping = False
        self._lapse: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """The highest seq that may be delivered now."""
        head = len(self.log.lines)
        return head if self.gate is None else min(head, self.gate)

    def absorb(self, entries: Sequence[Entry], turn: Turn | None = None) -> Absorbed:
        """Take entries that Redis holds, and the gate as it was after them; deliver what is new."""
        outcome, grew = Absorbed.KNOWN, False
        for entry in entries:
            outcome = self.log.absorb(entry)
            grew = grew or outcome is Absorbed.GREW
            if outcome in (Absorbed.HOLE, Absorbed.DIVERGED):
                break
        if turn is not None:
            self.mind(turn)
        if grew:
            self.sweep()
        return outcome

    def mind(self, turn: Turn) -> None:
        """Take the gate's latest turn; one before it is what a Redis that lost something says."""
        if turn.number < self.turn.number:
            return
        self.turn = turn
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        if turn.shut is not None:
            loop = asyncio.get_running_loop()
            self._lapse = loop.call_later(turn.shut.left, self.mind, Turn(turn.number))
        if turn.gate != self.gate:
            self._turn_to(turn.gate)

    @property
    def standing(self) -> Turn:
        """The gate's latest turn, with what is left of a pause."""
        if self.turn.shut is None or self._lapse is None:
            return Turn(self.turn.number)
        left = self._lapse.when() - asyncio.get_running_loop().time()
        return Turn(self.turn.number, Shut(self.turn.shut.seq, max(left, 0.001)))

    def _turn_to(self, seq: int | None) -> None:
        """Shut the gate or lift it, and tell the viewers, after what they may still read."""
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
        """Push every viewer once: a few at once, many in slices that leave the loop to others."""
        if self._sweeping or not self.viewers:
            return
        if len(self.viewers) <= AT_ONCE:
            for viewer in tuple(self.viewers):
                viewer.push()
            self._slices.clear()
            return
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
        if len(self.viewers) == 1:
            return encoding.slice(self.log, start, stop)
        key = (id(encoding), start, stop)
        data = self._slices.get(key)
        if data is None:
            if len(self._slices) >= SLICES:
                self._slices.clear()
            data = self._slices[key] = encoding.slice(self.log, start, stop)
        return data

    def encoding(self, dialect: Dialect) -> Encoding:
        """Return the log's encoding in a dialect, the same for all who ask."""
        encoding = self._encodings.get(dialect)
        if encoding is None:
            encoding = self._encodings[dialect] = dialect.encoding(self.sid)
        return encoding

    def join(self, dialect: Dialect, sink: Sink, timeout: float) -> Viewer:
        """Add a viewer, which reads nothing until it is pushed."""
        viewer = Viewer(self, self.encoding(dialect), sink, timeout)
        self.viewers[viewer] = None
        if viewer.follows is not None:
            viewer.follows.begin()
        self._changed(self)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer."""
        if self.viewers.pop(viewer, viewer) is None:
            if viewer.follows is not None:
                viewer.follows.end()
            self._changed(self)

    def forms(self) -> Iterator[tuple[str, Viewer]]:
        """Yield each viewer and the name of its wire format."""
        names = {id(e): type(d).__name__.lower() for d, e in self._encodings.items()}
        return ((names.get(id(viewer.encoding), "other"), viewer) for viewer in self.viewers)

    def replace(self, log: Log, reason: str = "diverged") -> None:
        """Go on with another log: whoever stands where it has nothing drops all and reads it anew.

        A log that begins under a later epoch than the one before was restarted, whatever the `reason`.
        """
        old, self.log = self.log, log
        if log.entries and log.entries[0].epoch > old.epoch:
            reason = "restarted"
        self._encodings_anew()
        for viewer in list(self.viewers):
            if not log.holds(old.at(viewer.position)):
                viewer.reset(reason, log.epoch)
        self.sweep()

    def _encodings_anew(self) -> None:
        self._slices.clear()
        for dialect, old in list(self._encodings.items()):
            new = self._encodings[dialect] = dialect.encoding(self.sid)
            for viewer in self.viewers:
                if viewer.encoding is old:
                    viewer.encoding = new

    def close(self) -> None:
        """Wait for no pause to lapse: nobody reads here any more."""
        if self._lapse is not None:
            self._lapse.cancel()

    def end(self, ending: Ending) -> None:
        """End every viewer's delivery."""
        self.close()
        for viewer in list(self.viewers):
            viewer.end(ending)
