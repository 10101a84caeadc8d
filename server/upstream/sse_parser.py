"""Server-sent events from bytes, cut anywhere (pure).

The rules are WHATWG's, "9.2.6 Interpreting an event stream". Two additions: an event has a largest
size, and the data stays bytes, which its reader decodes once. The usual stream, whole blocks of
`data: …` and a blank line, costs one `split` for a chunk.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from server.errors import UpstreamInvalid

MAX_EVENT = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_DATA = b"data: "
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Message(NamedTuple):
    """One dispatched event: its type, its data lines joined by LF, and the last id seen so far."""

    event: str
    data: bytes
    id: str


class SSEParser:
    """An event stream in progress; feed it the bytes of one response, in order.

    `limit` is the most bytes that one event may have.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._rest = b""
        self._started = False
        self._after_cr = False
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Yield what `chunk` completes; raise `UpstreamInvalid` at an event over the limit."""
        text = self._joined(chunk)
        if not text:
            return
        if self._data or self._event or b"\r" in text or b"\n\n" not in text:
            yield from self._lines(text)
            return
        blocks, _, rest = text.rpartition(b"\n\n")
        for block in blocks.split(b"\n\n"):
            if block.startswith(_DATA) and b"\n" not in block and len(block) <= self._limit:
                yield Message("message", block[6:], self._id)
            else:
                yield from self._lines(block + b"\n\n")
        yield from self._lines(rest)

    def _joined(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk:
            # The line ended at the CR already; this LF belongs to it.
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        text, self._rest = self._rest + chunk, b""
        if not self._started:
            if len(text) < len(_BOM) and _BOM.startswith(text):
                self._rest = text
                return b""
            text, self._started = text.removeprefix(_BOM), True
        return text

    def _lines(self, text: bytes) -> Iterator[Message]:
        *lines, self._rest = _LINE_END.split(text)
        self._after_cr = text.endswith(b"\r")
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                yield Message(self._event or "message", b"\n".join(self._data), self._id)
                self._reset()
            else:
                self._reset()
        if self._size + len(self._rest) > self._limit:
            raise UpstreamInvalid("The model server sent an event that is too large.")

    def _reset(self) -> None:
        self._data, self._size, self._event = [], 0, ""

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value)
            if self._size > self._limit:
                raise UpstreamInvalid("The model server sent an event that is too large.")
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
