"""What a session's log holds: events, cursors and the merging of text (pure).

An event is one token, one tool-call delta, one piece of bytes, or the one final event that ends a
log. The JSON that `encode` makes is what Redis stores and, byte for byte, what every native
client reads.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Self

import msgspec
import orjson
from msgspec import Meta

from server.errors import BadCursor, UpstreamFailed

_CURSOR = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})", re.ASCII)
_ROOM = 100
"""Levels of JSON that a format may put around what it tells."""

LONGEST = 315_360_000.0
"""Seconds, ten years: who is to wait longer may as well wait so long."""
Place = Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)]
Wait = Annotated[float, Meta(ge=0, le=LONGEST)]


class AbortReason(StrEnum):
    """Why a session was aborted."""

    USER = "user"
    ORPHANED = "orphaned"
    LIMIT = "limit"
    SHUTDOWN = "shutdown"


class _Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """One item of a session's log."""


class Content(_Event, frozen=True, tag="content"):
    """A piece of the answer's text."""

    content: str


class Reasoning(_Event, frozen=True, tag="reasoning"):
    """A piece of the model's reasoning."""

    content: str


class ToolCall(_Event, frozen=True, tag="tool_call"):
    """A delta of the tool call at `index`, in OpenAI's order: id and name come with the first."""

    index: Place
    id: str | None = None
    name: str | None = None
    arguments: str | None = None


class Bytes(_Event, frozen=True, tag="bytes"):
    """A piece of a body that is not text; base64 on the wire. Its type comes with the first."""

    data: bytes
    content_type: str | None = None


class Done(_Event, frozen=True, tag="done"):
    """The upstream ended, and said so; `usage` has to be `tellable`."""

    finish_reason: str = msgspec.field(default="stop")
    usage: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.usage is not None and not tellable(self.usage):
            raise ValueError("a usage that cannot be told")


class Aborted(_Event, frozen=True, tag="aborted"):
    """Somebody, or a rule, ended the session."""

    reason: AbortReason


class Error(_Event, frozen=True, tag="error"):
    """The session failed; `status` and `retry_after` (seconds) are the upstream's, if it gave any."""

    code: str
    message: str
    retryable: bool
    status: int | None = None
    retry_after: Wait | None = None

    @classmethod
    def of(cls, error: UpstreamFailed) -> Self:
        """Return the end of a session whose upstream failed so."""
        return cls(error.code, error.message, error.retryable, error.upstream_status, error.retry_after)


Event = Content | Reasoning | ToolCall | Bytes | Done | Aborted | Error
FinalEvent = Done | Aborted | Error
FINAL = (Done, Aborted, Error)
TEXT = (Content, Reasoning)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def tellable(value: Any) -> bool:
    """Say whether every format can write JSON that was read: not too deep, no number too large."""
    for _ in range(_ROOM):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def encode(event: Event) -> bytes:
    """Return the event as one line of JSON."""
    if type(event) is Done:
        return _encoder.encode(_spelled_out(event))
    return _encoder.encode(event)


def _spelled_out(done: Done) -> dict[str, Any]:
    # omit_defaults would drop the finish_reason "stop", which clients look for.
    line: dict[str, Any] = {"type": "done", "finish_reason": done.finish_reason}
    return line if done.usage is None else line | {"usage": done.usage}


def decode(line: bytes) -> Event:
    """Return the event that `line` holds; raise `msgspec.DecodeError` if it holds none."""
    return _decoder.decode(line)


def decode_final(line: bytes) -> FinalEvent:
    """Return the final event that `line` holds; raise `ValueError` if it holds another one."""
    event = decode(line)
    if not isinstance(event, FINAL):
        raise ValueError("not a final event")
    return event


class Cursor(NamedTuple):
    """Everything up to and including event `seq` of `epoch`; sorts as the log does."""

    epoch: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<epoch>-<seq>`; raise `BadCursor` on anything else."""
        if not (found := _CURSOR.fullmatch(text)):
            raise BadCursor()
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


class Merged(NamedTuple):
    """`n` adjacent log events of one text type, as one; `n` is 1 for anything else."""

    event: Event
    n: int


def merge(events: Sequence[Event]) -> list[Merged]:
    """Join neighbours of the same text type without loss, in order."""
    merged: list[Merged] = []
    start = 0
    for at in range(1, len(events) + 1):
        kind = type(events[start]) if start < len(events) else None
        if at < len(events) and kind in TEXT and type(events[at]) is kind:
            continue
        merged.append(_joined(events[start:at]))
        start = at
    return merged if events else []


def _joined(run: Sequence[Event]) -> Merged:
    first = run[0]
    if len(run) == 1 or not isinstance(first, TEXT):
        return Merged(first, len(run))
    text = "".join(event.content for event in run if isinstance(event, TEXT))
    return Merged(type(first)(text), len(run))
