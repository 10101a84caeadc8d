"""A session's log as one node holds it: the dense prefix of what Redis has (pure).

Redis keeps the log as entries, one a batch. An entry's id is `<epoch>-<last seq>`, so the id is the
fence; a marker, written when an epoch begins, holds no event and has the id `<epoch>-0`. Each entry
names the seq of its first event and its own ordinal, so a loss shows: the next entry does not
continue the prefix, or there are fewer entries than the last one's ordinal says.
"""

from bisect import bisect_right
from collections.abc import Iterable
from enum import Enum, auto
from typing import Self

import msgspec

from server.events import Cursor


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of the log: events `first … last` under one epoch, or a marker (no events).

    `final` says that the last of `lines` (one JSON event each) is the final event.
    """

    epoch: int
    first: int
    ordinal: int
    lines: tuple[bytes, ...] = ()
    final: bool = False

    @property
    def last(self) -> int:
        """The seq at which the log stands after this entry."""
        return self.first + len(self.lines) - 1

    @property
    def id(self) -> Cursor:
        """The entry's id in Redis: a marker's seq is 0."""
        return Cursor(self.epoch, self.last if self.lines else 0)

    def fields(self) -> tuple[bytes, ...]:
        """Return the fields to XADD: e, `<first> <ordinal>` and then a line an event; z, the final."""
        head = b"%d %d" % (self.first, self.ordinal)
        if self.final:
            return (b"e", b"\n".join((head, *self.lines[:-1])), b"z", self.lines[-1])
        return (b"e", b"\n".join((head, *self.lines)))

    @classmethod
    def parse(cls, id: bytes, fields: list[bytes]) -> Self:
        """Read what `fields` wrote, as XRANGE returns it."""
        head, *lines = fields[1].split(b"\n")
        first, _, ordinal = head.partition(b" ")
        final = fields[2:3] == [b"z"]
        return cls(
            epoch=int(id.partition(b"-")[0]),
            first=int(first),
            ordinal=int(ordinal),
            lines=(*lines, fields[3]) if final else tuple(lines),
            final=final,
        )


class Absorbed(Enum):
    """How an entry stands to the prefix."""

    GREW = auto()
    KNOWN = auto()
    HOLE = auto()
    DIVERGED = auto()


class Log:
    """The dense prefix of one session's log; event `seq` is `lines[seq - 1]`."""

    __slots__ = ("_epochs", "_starts", "_top", "closed", "entries", "lines")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: list[Entry] = []
        self.lines: list[bytes] = []
        self.closed = False
        self._top = (0, 0)
        self._starts: list[int] = []
        self._epochs: list[int] = []
        absorb = self.absorb
        for entry in entries:
            absorb(entry)

    @property
    def head(self) -> int:
        """The seq of the last event; 0 when there is none yet."""
        return len(self.lines)

    @property
    def top(self) -> Cursor:
        """The id of the last entry."""
        return Cursor(*self._top)

    @property
    def epoch(self) -> int:
        """The epoch of the last entry."""
        return self._top[0]

    @property
    def failed(self) -> bool:
        """Whether the log ended in anything but `done`."""
        return self.closed and not self.lines[-1].startswith(b'{"type":"done"')

    def epoch_at(self, seq: int) -> int:
        """Return the epoch under which event `seq` was written; 0 for an empty log."""
        if self._starts and seq >= self._starts[-1]:
            return self._epochs[-1]
        at = bisect_right(self._starts, max(seq, 1)) - 1
        return self._epochs[at] if at >= 0 else 0

    def at(self, seq: int) -> Cursor:
        """Return the cursor of who has read up to event `seq`."""
        return Cursor(self.epoch_at(seq), seq)

    def holds(self, cursor: Cursor) -> bool:
        """Say whether the log has that very event; `<epoch>-0` is good for any epoch it has had."""
        if cursor.seq == 0:
            return cursor.epoch in self._epochs
        return cursor.seq <= self.head and self.epoch_at(cursor.seq) == cursor.epoch

    def absorb(self, entry: Entry) -> Absorbed:
        """Take the next entry, if it continues the prefix."""
        lines, head = entry.lines, len(self.lines)
        top = (entry.epoch, entry.first + len(lines) - 1 if lines else 0)
        if top <= self._top:
            return Absorbed.KNOWN
        place = len(self.entries) + 1
        # A marker that is missing leaves no gap between the events.
        if entry.first > head + 1 or (entry.first == head + 1 and entry.ordinal > place):
            return Absorbed.HOLE
        if entry.first <= head or self.closed or entry.ordinal != place:
            return Absorbed.DIVERGED
        if entry.epoch != self._top[0]:
            self._starts.append(entry.first)
            self._epochs.append(entry.epoch)
        self.entries.append(entry)
        self.lines += lines
        self._top, self.closed = top, entry.final
        return Absorbed.GREW

    def next(self, lines: tuple[bytes, ...], final: bool) -> Entry:
        """Return the entry that would continue this log under its epoch."""
        return Entry(self._top[0], len(self.lines) + 1, len(self.entries) + 1, lines, final)

    def below(self, seq: int) -> list[Entry]:
        """Return the entries whose events all come before event `seq`."""
        return [entry for entry in self.entries if entry.last < seq]
