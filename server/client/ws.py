"""A session over a WebSocket of its own."""

import re
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import ClientWSTimeout, WSMsgType
from yarl import URL

from server.client.answers import error_of_close, error_of_status
from server.client.items import NOTICES, UNREADABLE, Frame
from server.client.reports import Hangup
from server.events import Cursor

CLEAN = 1000
GOODBYE = 0.5
"""Seconds that the closing handshake may take."""
# A tool call's own id is called `call_id` here, where `id` is the event's.
_EVENT = re.compile(rb'\{"session":"[^"]*","id":"([0-9-]+)",')


class _Typed(msgspec.Struct):
    type: str


def frame_of(data: bytes) -> Frame | None:
    """Read one text frame (pure); None if it is neither event nor notice.

    What cannot be read at all comes as an event without an id, which no reader lets through.
    """
    if found := _EVENT.match(data):
        line = b"{" + data[found.end() :]
        if line.startswith(b'{"type":"tool_call"'):
            line = line.replace(b'"call_id":', b'"id":', 1)
        return Frame("", found[1].decode(), line)
    try:
        kind = msgspec.json.decode(data, type=_Typed).type
    except UNREADABLE:
        return Frame("", "", data)
    return Frame(kind, "", data) if kind in NOTICES else None


class Ws:
    """One socket; `read` gives the frames that came, perhaps none but a sign of life."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse[Any]") -> None:
        self._socket = socket

    @classmethod
    async def open(
        cls, http: aiohttp.ClientSession, session: URL, after: Cursor | None, merged: bool
    ) -> Self:
        """Connect; raise the server's refusal."""
        query = ({"after": str(after)} if after else {}) | ({"delivery": "merged"} if merged else {})
        try:
            socket = await http.ws_connect(
                session / "ws", params=query, autoping=False, autoclose=False, max_msg_size=0,
                timeout=ClientWSTimeout(ws_close=GOODBYE), decode_text=False,
            )  # fmt: skip
        except aiohttp.WSServerHandshakeError as error:
            raise error_of_status(error.status) from None
        return cls(socket)

    async def read(self) -> list[Frame]:
        """Wait for more; raise `Hangup`, or what the close code stands for, at the end."""
        message = await self._socket.receive()
        if message.type is WSMsgType.TEXT:
            frame = frame_of(message.data)
            return [frame] if frame is not None else []
        if message.type is WSMsgType.PING:
            await self._socket.pong(message.data)
        elif message.type is not WSMsgType.PONG:
            code = message.data if message.type is WSMsgType.CLOSE else None
            hangup = Hangup(f"the socket was closed ({code})")
            hangup.clean = code == CLEAN
            raise error_of_close(code) or hangup
        return []

    async def aclose(self) -> None:
        """Hang up."""
        await self._socket.close()
