"""Foreign dialects: each a pure fold over a log from its start (pure).

A dialect is a `Fold`: `begin` gives the state before the first event and the parts that open every
stream, `step` the state after an event and the parts that the event becomes. A part is one message of
the foreign protocol, as JSON (or what else it is: `[DONE]`); a `Frame` puts it on the wire. A state is
never changed, only replaced.

`Folded` runs a fold over one log, for all viewers of equal dialects at once: each event is folded
once, in order, and whoever reads on in the middle is folded for in silence. So one log gives the same
bytes, ids and numbers on every node. To add a dialect, write a frozen dataclass with `begin`, `step`
and `broken`, and let its `encoding(sid)` return `Folded(self, frame)`; what must be the same on every
node besides the log (model, time of creation, what the caller asked for) comes from the session's
`Spec`, whose `echo` holds what a dialect wants to keep. `server.transport.parts` sends it.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from server.events import Event, decode
from server.wire.frames import Lines

SLICE = 1000
"""Events folded in one go for somebody who joins: some milliseconds."""

S = TypeVar("S")

Frame = Callable[[int, bytes, bytes | None], bytes]
"""A part's number (from 0), the part, and, for an event's last part, that event's id: as bytes."""


class Fold(Protocol[S]):
    """A foreign dialect of one session."""

    def begin(self) -> tuple[S, Sequence[bytes]]:
        """Return the state before the first event, and the parts that come before it."""

    def step(self, state: S, event: Event) -> tuple[S, Sequence[bytes]]:
        """Return the state after an event, and the event's parts."""

    def broken(self) -> Sequence[bytes]:
        """Return the parts that tell a client that what it holds is not true any more."""


class Folded:
    """The encoding of one log by a fold; no client of such a dialect can be told to begin anew.

    `state` is the fold's after the last event folded.
    """

    restarts = False

    def __init__(self, fold: Fold[S], frame: Frame) -> None:
        self._frame = frame
        self._broken = fold.broken
        self.state: Any
        self.state, opening = fold.begin()
        self._step: Callable[[Any, Event], tuple[Any, Sequence[bytes]]] = fold.step
        self._parts = [frame(number, part, None) for number, part in enumerate(opening)]
        self._ends = [len(opening)]

    def slice(self, log: Lines, start: int, stop: int) -> bytes:
        """Return events `start + 1 … stop`, without what opens the stream."""
        self._fold(log, stop)
        return b"".join(self._parts[self._ends[start] : self._ends[stop]])

    def advance(self, log: Lines, stop: int) -> bool:
        """Fold a slice on towards event `stop`; return whether that is reached."""
        self._fold(log, min(stop, len(self._ends) - 1 + SLICE))
        return stop < len(self._ends)

    def place(self, log: Lines, limit: int, held: int) -> tuple[int, bytes] | None:
        """Return where to read on for a client that holds the first `held` parts of the stream.

        That is a seq, at most `limit`, and the bytes up to it: what opens the stream, or the rest of
        an event. None if the log has not come to that part.
        """
        self._fold(log, limit)
        seq = bisect_left(self._ends, held, hi=limit + 1)
        if seq > limit:
            return None
        return seq, b"".join(self._parts[held : self._ends[seq]])

    def notice(self, kind: str, facts: Mapping[str, Any]) -> bytes:
        """Return what breaks the stream off; such a dialect has no other notice."""
        parts = self._broken() if kind == "reset" else ()
        at = len(self._parts)
        return b"".join(self._frame(at + place, part, None) for place, part in enumerate(parts))

    def _fold(self, log: Lines, stop: int) -> None:
        for seq in range(len(self._ends), stop + 1):
            self.state, parts = self._step(self.state, decode(log.lines[seq - 1]))
            if parts:
                self._take(parts, b"%d-%d" % (log.epoch_at(seq), seq))
            self._ends.append(len(self._parts))

    def _take(self, parts: Sequence[bytes], id: bytes) -> None:
        *others, last = parts
        number, frame = len(self._parts), self._frame
        for part in others:
            self._parts.append(frame(number, part, None))
            number += 1
        self._parts.append(frame(number, last, id))


def sse(number: int, part: bytes, id: bytes | None) -> bytes:
    """Frame a part as a server-sent event without a name; an event's id is with its last part."""
    return b"data: %b\n\n" % part if id is None else b"id: %b\ndata: %b\n\n" % (id, part)
