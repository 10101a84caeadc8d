"""What a stream yields, read from what either transport carries (pure)."""

from typing import Annotated, Any, NamedTuple

import msgspec

from server.events import Cursor, Event, decode


class Paused(msgspec.Struct, frozen=True):
    """Nothing above `gate` will come until somebody resumes the session."""

    gate: int


class Resumed(msgspec.Struct, frozen=True):
    """The session goes on."""


class Reset(msgspec.Struct, frozen=True):
    """Drop what you hold: the log begins anew, and so does this stream."""

    reason: str
    epoch: int


class Attached(msgspec.Struct, frozen=True):
    """Where the session stood when this client was attached."""

    status: str
    epoch: int
    seq: int
    paused: bool
    gate: int | None
    model: str


class Moving(msgspec.Struct, frozen=True):
    """This node is shutting down."""


class Unknown(msgspec.Struct, frozen=True):
    """An event of a kind that this client does not know yet."""

    type: str
    fields: dict[str, Any]


Notice = Paused | Resumed | Reset | Attached | Moving
Item = Event | Unknown | Paused | Resumed | Reset
NOTICES: dict[str, type[Notice]] = {
    "session": Attached,
    "paused": Paused,
    "resumed": Resumed,
    "reset": Reset,
    "moving": Moving,
}


class Frame(NamedTuple):
    """One event or notice as it came: a notice has a `kind`, an event has an `id`."""

    kind: str
    id: str
    data: bytes


class Arrival(NamedTuple):
    """One item and, if it is an event, its id; a merged one stands for `n` events up to that id."""

    id: Cursor | None
    item: Item
    n: int = 1


class _Counted(msgspec.Struct):
    n: Annotated[int, msgspec.Meta(ge=1)] = 1


_counted = msgspec.json.Decoder(_Counted)
UNREADABLE = (ValueError, RecursionError)
"""What reading JSON raises: its own error, one for text that is no UTF-8, one for what is too deep."""


def notice_of(frame: Frame) -> Notice:
    """Read a notice; raise one of `UNREADABLE` if it is none of that kind."""
    return msgspec.json.decode(frame.data, type=NOTICES[frame.kind])


def event_of(data: bytes) -> Event | Unknown:
    """Read an event; raise one of `UNREADABLE` if it is not even an object with a type."""
    try:
        return decode(data)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(data, type=dict[str, Any])
        return Unknown(str(fields.pop("type", "")), fields)


def count_of(data: bytes) -> int:
    """Return how many events of the log a delivered one stands for."""
    return _counted.decode(data).n
