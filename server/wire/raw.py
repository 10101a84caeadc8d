"""A session as the body that its upstream sent: its bytes, or its text (pure)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from server.events import Bytes, Content, Event, decode
from server.wire.frames import Frames, no_notice

TEXT = "text/plain; charset=utf-8"
UNKNOWN = "application/octet-stream"
_TYPE = re.compile(r"[\w!#$&^.+-]{1,100}/[\w!#$&^.+-]{1,100}(;[\x20-\x7e]{1,200})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, and text as UTF-8."""

    def encoding(self, sid: str) -> Frames:
        """Return the encoding for a log."""
        return Frames(_frame, no_notice, [], restarts=False)


def _frame(_epoch: int, _seq: int, line: bytes) -> bytes:
    event = decode(line)
    if isinstance(event, Bytes):
        return event.data
    return event.content.encode() if isinstance(event, Content) else b""


def content_type(events: Iterable[Event]) -> str:
    """Return the type of a body that begins so: what the upstream called it, if it came as bytes."""
    for event in events:
        if isinstance(event, Bytes):
            told = event.content_type or UNKNOWN
            return told if _TYPE.fullmatch(told) else UNKNOWN
        if isinstance(event, Content):
            return TEXT
    return TEXT
