"""A stream cut into reads: whole, byte by byte, and at places that its own bytes choose."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from server.events import Bytes, Content, decode, encode

T = TypeVar("T")
Pieces = tuple[bytes, ...]


def splits(data: bytes) -> Iterator[Pieces]:
    """Yield the ways to cut; the first is not to. No read brings nothing."""
    yield (data,) if data else ()
    yield tuple(data[at : at + 1] for at in range(len(data)))
    dice = random.Random(data)
    for _ in range(2):
        cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randint(1, 6)))
        places = zip([0, *cuts], [*cuts, len(data)], strict=True)
        yield tuple(data[a:b] for a, b in places if b > a)


def same(read: Callable[[Pieces], T], data: bytes) -> T:
    """Return what is read of the whole; however it is cut, it has to be that."""
    whole, *others = (read(pieces) for pieces in splits(data))
    assert all(other == whole for other in others), "another split, another outcome"
    return whole


def joined(events: Iterable[Any]) -> list[Any]:
    """Join neighbouring texts, and neighbouring bytes: those may come in any pieces."""
    made: list[Any] = []
    for event in events:
        last = made[-1] if made else None
        if isinstance(event, Content) and isinstance(last, Content):
            made[-1] = Content(last.content + event.content)
        elif isinstance(event, Bytes) and isinstance(last, Bytes) and event.content_type is None:
            made[-1] = Bytes(last.data + event.data, last.content_type)
        else:
            made.append(event)
    return made


def kept(events: Iterable[Any]) -> None:
    """Check that events are what a log can hold, a line each, and give back."""
    for event in events:
        line = encode(event)
        assert b"\n" not in line, "an event of several lines"
        assert decode(line) == event, "an event that is not read back as it was"
