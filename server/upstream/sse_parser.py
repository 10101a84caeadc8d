"""Server-sent events from bytes, cut anywhere (pure).

The rules are WHATWG's, "9.2.6 Interpreting an event stream". Three additions: an event has a
largest size, the data stays bytes (its reader decodes it, once), and `retry` is nobody's business
here. The usual stream, `data: …` and a blank line, costs one `split` for a whole chunk.
"""

from collections.abc import Iterator
from typing import NamedTuple

from server.errors import UpstreamInvalid

MAX_EVENT = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_DATA = b"data: "


class Message(NamedTuple):
    """One dispatched event: its type, its data lines joined by LF, and the last id seen so far."""

    event: str
    data: bytes
    id: str


class SSEParser:
    """An event stream in progress; feed it the bytes of one response, in order.

    `limit` is the most bytes that one line, or the data of one event, may have.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._pending: list[bytes] = []  # pieces of the line that has no end yet
        self._pending_size = 0
        self._started = False
        self._after_cr = False
        self._event = ""
        self._data: list[bytes] = []
        self._data_size = 0
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Yield what `chunk` completes; to be exhausted before the next call.

        Raise `UpstreamInvalid` in the place of the first event that is over the limit.
        """
        if self._after_cr and chunk:
            # The line ended at the CR already; this LF belongs to it.
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        if b"\n" not in chunk and b"\r" not in chunk:
            self._hold(chunk)
            return
        text = self._whole(chunk)
        while text and (self._data or self._event):
            yield from self._finish_event(line_end := text.find(b"\n"), text)
            text = text[line_end + 1 :] if line_end >= 0 else b""
        yield from self._blocks(text)
