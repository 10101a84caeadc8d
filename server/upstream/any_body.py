"""A streaming body of any kind to events, cut anywhere (pure)."""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator

from server.errors import UpstreamFailed, UpstreamInvalid, UpstreamTruncated
from server.events import Bytes, Content, Done, Event, FinalEvent
from server.upstream.caller import Reader
from server.upstream.shapes import MessageReader
from server.upstream.sse_parser import MAX_EVENT, SSEParser

LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
Push = Callable[[Event], None]

_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([\w.:+-]{1,40})""", re.ASCII | re.IGNORECASE)
_PYTHONS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape"}
"""Codecs that are no charsets, and no streams either."""


class LineParser:
    """Lines in progress, each ended by LF or CRLF; empty ones are none."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._open = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Return the lines that a piece completes; raise `UpstreamInvalid` for one over the limit."""
        *lines, self._open = (self._open + piece).split(b"\n")
        for line in lines:
            self._check(line)
            if line := line.strip():
                yield line
        self._check(self._open)

    def end(self) -> Iterator[bytes]:
        """Return what is left, when the whole body is here: its last line need not be ended."""
        return self.feed(b"\n")

    def _check(self, line: bytes) -> None:
        if len(line) > self._limit:
            raise UpstreamInvalid("The model server sent a line over the size limit.")


class _Lines:
    """A message a line."""

    def __init__(self, push: Push, whole: bool) -> None:
        self._messages = MessageReader(push)
        self._parser = LineParser()
        self._whole = whole

    @property
    def begun(self) -> bool:
        """Whether there was an event."""
        return self._messages.begun

    def feed(self, piece: bytes) -> bool:
        """Push the events of the lines that a piece completes."""
        return self._take(self._parser.feed(piece))

    def finish(self) -> FinalEvent:
        """Return the end."""
        if self._whole and self._messages.final is None:
            self._take(self._parser.end())
        return _ending(self._messages, self._whole)

    def _take(self, lines: Iterable[bytes]) -> bool:
        return any(self._messages.take(line) for line in lines)


class _Events:
    """Server-sent events: messages of JSON if the first one is an object, else of plain text."""

    def __init__(self, push: Push, whole: bool) -> None:
        self.begun = False
        self._push = push
        self._messages = MessageReader(self._tell)
        self._parser = SSEParser()
        self._whole = whole
        self._plain: bool | None = None

    def feed(self, piece: bytes) -> bool:
        """Push the events that a piece completes."""
        return any(self._take(name, data) for name, data, _ in self._parser.feed(piece))

    def finish(self) -> FinalEvent:
        """Return the end."""
        return _ending(self._messages, self._whole)

    def _take(self, name: str, data: bytes) -> bool:
        failed = name == "error"
        if failed and not data.startswith(b"{"):
            data = b"{}"
        if self._plain is None and not failed and data != b"[DONE]":
            self._plain = not data.startswith(b"{")
        if failed or not self._plain or data == b"[DONE]":
            return self._messages.take(data, failed)
        self._tell(Content(_text(data)))
        return False

    def _tell(self, event: Event) -> None:
        self.begun = True
        self._push(event)


class _Text:
    """Text, decoded as it comes."""

    def __init__(self, push: Push, whole: bool, charset: str) -> None:
        self.begun = False
        self._push = push
        self._whole = whole
        self._decoder = TextDecoder(charset)

    def feed(self, piece: bytes) -> bool:
        """Push the text of a piece."""
        self._tell(self._decoder.decode(piece))
        return False

    def finish(self) -> FinalEvent:
        """Return the end."""
        if not self._whole:
            raise UpstreamTruncated()
        self._tell(self._decoder.decode(b"", final=True))
        return Done()

    def _tell(self, text: str) -> None:
        if text:
            self.begun = True
            self._push(Content(text))


class _Bytes:
    """Anything else, piece by piece; the first one says of what type."""

    def __init__(self, push: Push, whole: bool, content_type: str) -> None:
        self.begun = False
        self._push = push
        self._whole = whole
        self._type = content_type

    def feed(self, piece: bytes) -> bool:
        """Push a piece."""
        self._push(Bytes(piece, None if self.begun else self._type))
        self.begun = True
        return False

    def finish(self) -> FinalEvent:
        """Return the end."""
        if not self._whole:
            raise UpstreamTruncated()
        return Done()


class _Document:
    """One JSON object that is the whole answer."""

    def __init__(self, push: Push, whole: bool) -> None:
        self.begun = False
        self._messages = MessageReader(push)
        self._body = b""
        self._whole = whole

    def feed(self, piece: bytes) -> bool:
        """Keep a piece."""
        self._body += piece
        if len(self._body) > MAX_EVENT:
            raise UpstreamInvalid("The model server sent an answer that is too large.")
        return False

    def finish(self) -> FinalEvent:
        """Push the events of the whole, and return the end."""
        if not self._whole:
            raise UpstreamTruncated()
        self._messages.take(self._body)
        return _ending(self._messages, whole=True)


class TextDecoder:
    """Text of a charset in progress; raises `UpstreamInvalid` for what is not of it."""

    def __init__(self, charset: str) -> None:
        if not _is_charset(charset):
            raise UpstreamInvalid("The upstream's text is in an unknown encoding.")
        self._decoder = codecs.getincrementaldecoder(charset)()

    def decode(self, piece: bytes, final: bool = False) -> str:
        """Return the characters that a piece completes."""
        try:
            return self._decoder.decode(piece, final)
        except UnicodeError:
            raise UpstreamInvalid("The upstream's text is not in the encoding that it names.") from None


def kind_of(content_type: str) -> tuple[str, str]:
    """Return a content type's media type (text, if it is none) and charset (UTF-8 if it names none)."""
    kind, charset = content_type.partition(";")[0].strip().lower(), _CHARSET.search(content_type)
    return kind if kind.count("/") == 1 else "text/plain", charset[1].lower() if charset else "utf-8"


def _is_charset(name: str) -> bool:
    """Say whether it is of texts: to Python, zlib is an encoding, too."""
    try:
        "".encode(name)
    except (LookupError, UnicodeError):
        return False
    return codecs.lookup(name).name not in _PYTHONS


def reader_of(content_type: str, push: Push, whole: bool) -> Reader:
    """Return the reader of a body; `whole` says that its end is more than a closed connection."""
    kind, charset = kind_of(content_type)
    if kind == "text/event-stream":
        return _Events(push, whole)
    if kind in LINES:
        return _Lines(push, whole)
    if kind == "application/json":
        return _Document(push, whole)
    if kind.startswith("text/"):
        return _Text(push, whole, charset)
    return _Bytes(push, whole, content_type)


def _ending(messages: MessageReader, whole: bool) -> FinalEvent:
    end = messages.finish(whole)
    if not isinstance(end, Done):
        # Its own words are not passed on: they may hold keys.
        raise UpstreamFailed("The model server reported an error.")
    return end


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UpstreamInvalid() from None
