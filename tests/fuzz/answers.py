"""What is wrong with the bytes that a server answered with (pure)."""

from typing import Any

import httptools


class _Statuses:
    """The statuses of the answers on one connection."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self.parser: Any = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.found.append(self.parser.get_status_code())


def complaint(answer: bytes) -> str | None:
    """Return what is wrong, or None: a 5xx, a socket that a failure closed, an internal error."""
    if not answer:
        return None
    told = _Statuses()
    try:
        told.parser.feed_data(answer)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        if not told.found:
            return "what was answered is not HTTP"
    bad = [status for status in told.found if status >= 500]
    if bad:
        return f"HTTP {bad[0]}"
    if 101 in told.found and _closed(answer.partition(b"\r\n\r\n")[2]) == 1011:
        return "close code 1011"
    return "internal_error" if b'"internal_error"' in answer else None


def _closed(frames: bytes) -> int | None:
    """Return the code that a server's frames end with."""
    while len(frames) > 1:
        width = {126: 2, 127: 8}.get(frames[1], 0)
        size = int.from_bytes(frames[2 : 2 + width], "big") if width else frames[1]
        payload, opcode = frames[2 + width : 2 + width + size], frames[0] & 15
        if opcode == 8:
            return int.from_bytes(payload[:2], "big")
        frames = frames[2 + width + size :]
    return None
