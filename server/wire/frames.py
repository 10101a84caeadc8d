"""A log's events in one format, each encoded once, whoever reads them and from wherever (pure)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from server.events import decode, encode, merge


class Lines(Protocol):
    """What an encoding needs of a log: its events' JSON, and the epoch each was written under."""

    lines: list[bytes]

    def epoch_at(self, seq: int) -> int:
        """Return the epoch of event `seq`."""


Frame = Callable[[int, int, bytes], bytes]
"""One event's epoch, seq and JSON, as bytes of the format."""

Notice = Callable[[str, Mapping[str, Any]], bytes]
"""A notice's kind and facts, as bytes of the format."""


def no_notice(kind: str, facts: Mapping[str, Any]) -> bytes:
    """Return nothing, for a format that has no notices."""
    return b""


@dataclass(slots=True)
class Frames:
    """One by one: the default."""

    frame: Frame
    notice: Notice
    frames: list[bytes]
    restarts: bool = True

    def slice(self, log: Lines, start: int, stop: int) -> bytes:
        """Return events `start + 1 … stop`."""
        frames = self.frames
        for seq in range(len(frames) + 1, stop + 1):
            frames.append(self.frame(log.epoch_at(seq), seq, log.lines[seq - 1]))
        return frames[start] if stop - start == 1 else b"".join(frames[start:stop])


@dataclass(slots=True)
class MergedFrames:
    """Neighbours of one text type as one event, with `n` and the id of the last of them."""

    frame: Frame
    notice: Notice
    restarts: bool = True

    def slice(self, log: Lines, start: int, stop: int) -> bytes:
        """Return events `start + 1 … stop`, merged."""
        seq, frames = start, []
        for event, n in merge([decode(line) for line in log.lines[start:stop]]):
            seq += n
            line = encode(event)
            if n > 1:
                line = b'%b,"n":%d}' % (line[:-1], n)
            frames.append(self.frame(log.epoch_at(seq), seq, line))
        return b"".join(frames)
