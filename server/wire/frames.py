"""A log's events in one format, each encoded once, whoever reads them and from wherever (pure)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from server.events import Cursor, decode, encode, merge


class Lines(Protocol):
    """What an encoding needs of a log: its events' JSON, and the epoch each was written under."""

    lines: list[bytes]

    def epoch_at(self, seq: int) -> int:
        """Return the epoch of event `seq`."""


Frame = Callable[[Cursor, bytes], bytes]
"""One event's JSON and its id, as bytes of the format."""

Notice = Callable[[str, Mapping[str, Any]], bytes]
"""A notice's kind and facts, as bytes of the format."""


@dataclass(slots=True)
class Frames:
    """One by one: the default."""

    frame: Frame
    notice: Notice
    frames: list[bytes]

    def slice(self, log: Lines, start: int, stop: int) -> bytes:
        """Return events `start + 1 … stop`."""
        for seq in range(len(self.frames) + 1, stop + 1):
            cursor = Cursor(log.epoch_at(seq), seq)
            self.frames.append(self.frame(cursor, log.lines[seq - 1]))
        return b"".join(self.frames[start:stop])


@dataclass(slots=True)
class MergedFrames:
    """Neighbours of one text type as one event, with `n` and the id of the last of them."""

    frame: Frame
    notice: Notice

    def slice(self, log: Lines, start: int, stop: int) -> bytes:
        """Return events `start + 1 … stop`, merged."""
        seq, frames = start, []
        for event, n in merge([decode(line) for line in log.lines[start:stop]]):
            seq += n
            line = encode(event)
            if n > 1:
                line = b'%b,"n":%d}' % (line[:-1], n)
            frames.append(self.frame(Cursor(log.epoch_at(seq), seq), line))
        return b"".join(frames)
