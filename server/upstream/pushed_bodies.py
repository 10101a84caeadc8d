"""Pushed bodies to items, cut anywhere (pure): a message, a piece of text, or a piece of bytes."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from server.errors import UnsupportedMediaType, UpstreamInvalid
from server.upstream.any_body import LINES, LineParser, TextDecoder, kind_of
from server.upstream.sse_parser import Message, SSEParser

Item = Message | str | bytes

# What curl says of `-d` and `-F`, which send a body in one piece.
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Items(Protocol):
    """One body in progress; raises `UpstreamInvalid` for what is not of its type."""

    def feed(self, piece: bytes) -> Iterable[Item]:
        """Return the items that a piece completes; exhaust it before the next call."""

    def end(self) -> Iterable[Item]:
        """Return what is left when the whole body is here."""


class _Lines:
    def __init__(self) -> None:
        self._parser = LineParser()

    def feed(self, piece: bytes) -> Iterable[Item]:
        return (Message("message", line, "") for line in self._parser.feed(piece))

    def end(self) -> Iterable[Item]:
        return self.feed(b"\n")


class _Events:
    def __init__(self) -> None:
        self._parser = SSEParser()

    def feed(self, piece: bytes) -> Iterable[Item]:
        return self._parser.feed(piece)

    def end(self) -> Iterable[Item]:
        return self.feed(b"\n\n")


class _Text:
    def __init__(self, charset: str) -> None:
        self._decoder = TextDecoder(charset)

    def feed(self, piece: bytes) -> Iterator[Item]:
        if text := self._decoder.decode(piece):
            yield text

    def end(self) -> Iterator[Item]:
        if text := self._decoder.decode(b"", final=True):
            yield text


class _Pieces:
    def feed(self, piece: bytes) -> Iterable[Item]:
        return (piece,) if piece else ()

    def end(self) -> Iterable[Item]:
        return ()


def items_of(content_type: str) -> Items:
    """Return the items of a body of that type; raise `UnsupportedMediaType`."""
    kind, charset = kind_of(content_type)
    if not content_type.isascii():
        raise UnsupportedMediaType("The body's type is not ASCII.")
    if kind in _FORMS:
        raise UnsupportedMediaType("Name the body's type: application/x-ndjson, text/plain, ….")
    if kind == "text/event-stream":
        return _Events()
    if kind in LINES or kind == "application/json":
        return _Lines()
    if not kind.startswith("text/"):
        return _Pieces()
    try:
        return _Text(charset)
    except UpstreamInvalid:
        raise UnsupportedMediaType("The text's charset is unknown.") from None
