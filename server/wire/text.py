"""The answer's text alone, as a plain body; or nothing (pure)."""

from dataclasses import dataclass

from server.events import Content, decode
from server.wire.frames import Frames, no_notice


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text: content events and nothing else."""

    def encoding(self, sid: str) -> Frames:
        """Return the encoding for a log."""
        return Frames(_frame, no_notice, [], restarts=False)


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing at all, for who waits for the end and then reads the log."""

    def encoding(self, sid: str) -> Frames:
        """Return the encoding for a log."""
        return Frames(_nothing, no_notice, [])


def _nothing(_epoch: int, _seq: int, _line: bytes) -> bytes:
    return b""


def _frame(_epoch: int, _seq: int, line: bytes) -> bytes:
    event = decode(line)
    return event.content.encode() if isinstance(event, Content) else b""
