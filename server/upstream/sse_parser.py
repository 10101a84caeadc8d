"""Server-sent events from bytes, cut anywhere (pure).

The rules are WHATWG's ("Interpreting an event stream"), with three turns: a line and an event have
a largest size, the data stays bytes (whoever reads it decodes it, once), and `retry` is ignored.
The usual stream, `data: …` and a blank line, costs one `split` for all the events of a chunk.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from server.errors import UpstreamInvalid

MAX_EVENT = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_DATA = b"data: "


class Message(NamedTuple):
    """One dispatched event: its type, its data lines joined by LF, the last id seen so far."""

    event: str
    data: bytes
    id: str


def _only_event(chunk: bytes, limit: int) -> bytes | None:
    """Return the data of a chunk that is one event of one line: a model server's usual write."""
    end = len(chunk) - 2
    if end <= limit and chunk.startswith(_DATA) and chunk.find(b"\n") == end and b"\r" not in chunk:
        return chunk[len(_DATA) : end] if chunk.endswith(b"\n\n") else None
    return None


class SSEParser:
    """An event stream in progress; feed it the bytes of one response, in order.

    `limit` is the most bytes that one line, or the data of one event, may have.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._open_line: list[bytes] = []
        self._open_size = 0
        self._started = False
        self._after_cr = False
        self._event = ""
        self._data: list[bytes] = []
        self._data_size = 0
        self._id = ""

    def feed(self, chunk: bytes) -> Iterable[Message]:
        """Return what `chunk` completes; exhaust it before the next call.

        Raise `UpstreamInvalid` in the place of the first event that is over the limit.
        """
        if self._bare and (data := _only_event(chunk, self._limit)) is not None:
            return (Message("message", data, self._id),)
        return self._fed(chunk)

    @property
    def _bare(self) -> bool:
        """Whether nothing is half read."""
        return self._started and not (self._open_line or self._data or self._event or self._after_cr)

    def _fed(self, chunk: bytes) -> Iterator[Message]:
        if self._after_cr and chunk:
            # The line ended with the CR; this LF is the second half of its CRLF.
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        if b"\n" not in chunk and b"\r" not in chunk:
            self._hold(chunk)
            return
        text = self._with_open_line(chunk)
        yield from self._lines(text) if self._data or self._event else self._blocks(text)

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._open_line.append(piece)
            self._open_size += len(piece)
            # The first line may still turn out to have a mark before it, which does not count.
            self._check(self._open_size - (0 if self._started else len(_BOM)))

    def _with_open_line(self, chunk: bytes) -> bytes:
        text = b"".join([*self._open_line, chunk]) if self._open_line else chunk
        self._open_line, self._open_size = [], 0
        if not self._started:
            text, self._started = text.removeprefix(_BOM), True
        if b"\r" in text:
            self._after_cr = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return text

    def _blocks(self, text: bytes) -> Iterator[Message]:
        *blocks, rest = text.split(b"\n\n")
        for block in blocks:
            if block.startswith(_DATA) and b"\n" not in block:
                self._check(len(block))
                yield Message("message", block[len(_DATA) :], self._id)
            else:
                yield from self._lines(block + b"\n\n")
        if rest:
            yield from self._lines(rest)

    def _lines(self, text: bytes) -> Iterator[Message]:
        *lines, rest = text.split(b"\n")
        for line in lines:
            self._check(len(line))
            if line:
                self._field(line)
            elif message := self._dispatch():
                yield message
        self._hold(rest)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_size += len(value) + bool(self._data)
            self._check(self._data_size)
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")

    def _dispatch(self) -> Message | None:
        event, data = self._event or "message", self._data
        self._event, self._data, self._data_size = "", [], 0
        return Message(event, b"\n".join(data), self._id) if data else None

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise UpstreamInvalid("The model server sent an event over the size limit.")
