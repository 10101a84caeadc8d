"""A session over server-sent events."""

from typing import Self

import aiohttp
from yarl import URL

from server.client.answers import error_in
from server.client.items import NOTICES, Frame
from server.client.reports import Hangup
from server.events import Cursor

_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
_DONE = b"[DONE]"


class Blocks:
    """An event stream in progress (pure); feed it the bytes of one response, in order."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[Frame]:
        """Return what `piece` completes."""
        *blocks, self._rest = (self._rest + piece).split(b"\n\n")
        return [frame for block in blocks if (frame := _frame(block)) is not None]


def _frame(block: bytes) -> Frame | None:
    kind, id, data = "", "", b""
    for line in block.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name == b"data":
            data = value
        elif name == b"id":
            id = value.decode(errors="replace")
        elif name == b"event":
            kind = value.decode(errors="replace")
    known = kind in NOTICES if kind else id and data != _DONE
    return Frame(kind, id, data) if known else None


class Sse:
    """One response; `read` gives the frames that came, perhaps none but a sign of life."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._blocks = Blocks()

    @classmethod
    async def open(
        cls, http: aiohttp.ClientSession, session: URL, after: Cursor | None, merged: bool
    ) -> Self | None:
        """Connect; return None if nothing is left to read. Raise the server's refusal."""
        query = {"delivery": "merged"} if merged else {}
        headers = _HEADERS | ({"Last-Event-ID": str(after)} if after else {})
        response = await http.get(
            session / "events", params=query, headers=headers, allow_redirects=False
        )
        if response.status == 200:
            return cls(response)
        async with response:
            if response.status == 204:
                return None
            raise await error_in(response)

    async def read(self) -> list[Frame]:
        """Wait for more; raise `Hangup` at the end of the response."""
        piece = await self._response.content.readany()
        if not piece:
            raise Hangup("the response ended")
        return self._blocks.feed(piece)

    async def aclose(self) -> None:
        """Hang up."""
        self._response.close()
