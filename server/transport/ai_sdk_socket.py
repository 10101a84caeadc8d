"""The protocol of the Vercel AI SDK's `WebSocketChatTransport`: many chats' answers on one socket.

A client sends `send`, `resume` and `abort`, each with a `requestId` under which it is answered: `start`,
`chunk` (`sequence` rises by one, from 0), `end`, `error` or `no-active`. An abort ends the generation; a
socket that closes does not.
"""

from typing import Any

import orjson
from aiohttp import web

from server.errors import InvalidRequest, TokenwireError, UnknownType
from server.session.seat import Seat
from server.session.state import Action
from server.session.viewer import Ending, Viewer
from server.transport import bodies, parts
from server.transport.ai_sdk import begin, dialect_of, last, live
from server.transport.api import routes
from server.transport.dialogue import CLOSE, Dialogue, checked
from server.transport.sink import RawSink
from server.wire.native import text_frame


class Lines:
    """The sink of one request: each of its numbered chunks is a frame of the socket they share."""

    __slots__ = ("_lead", "_sink")

    def __init__(self, sink: RawSink, request_id: str) -> None:
        self._sink = sink
        self._lead = b'{"type":"chunk","requestId":%b,' % orjson.dumps(request_id)

    def write(self, data: bytes) -> None:
        """Hand lines to the socket."""
        lead = self._lead
        frames = [text_frame(b"%b%b}" % (lead, line)) for line in data.split(b"\n") if line]
        self._sink.write(b"".join(frames))

    @property
    def full(self) -> bool:
        """Whether the client does not keep up."""
        return self._sink.full

    async def drain(self) -> None:
        """Wait until the client has caught up; raise `ConnectionError` when it is gone."""
        await self._sink.drain()


class ChatSocket(Dialogue):
    """What each message of a chat's client does; its viewers go by request."""

    __slots__ = ()

    async def answer(self, text: str) -> None:
        """Do what a request asks for."""
        message = bodies.json_object(text)
        request_id = self._ref = checked("requestId", message.get("requestId"))
        if not isinstance(request_id, str):
            raise InvalidRequest("`requestId` must be a string.")
        self._guest.command()
        command = _COMMANDS.get(str(message.get("type")))
        if command is None:
            raise UnknownType()
        await self._guest.request()
        await command(self, request_id, message)

    def refuse(self, error: TokenwireError) -> None:
        """Say so; who cannot be told, since nothing says which request it was, is hung up on."""
        if isinstance(self._ref, str):
            self._send("error", self._ref, errorText=error.message)
        else:
            self.end(error.close, error.code)

    def _send(self, kind: str, request_id: str, **fields: Any) -> None:
        self._sink.write(text_frame(orjson.dumps({"type": kind, "requestId": request_id, **fields})))

    async def _start(self, request_id: str, message: dict[str, Any]) -> None:
        chat = {**_body(message), "id": message.get("id"), "messages": message.get("messages")}
        await self._read_on(request_id, await begin(self._node, chat), 0)

    async def _resume(self, request_id: str, message: dict[str, Any]) -> None:
        name, held = message.get("id"), message.get("lastSequence")
        over_too = _body(message).get("ended", False)
        if not isinstance(name, str):
            raise InvalidRequest("`id` must be a string.")
        if held is not None and (type(held) is not int or held < 0):
            raise InvalidRequest("`lastSequence` must be a number, 0 or more.")
        if type(over_too) is not bool:
            raise InvalidRequest("`ended` is true or false.")
        seat = await last(self._node, name)
        # Who holds a part of an answer gets the rest even when it is over.
        if seat is None or not (over_too or held is not None or live(seat)):
            self._send("no-active", request_id)
            return
        self._send("start", request_id)
        await self._read_on(request_id, seat, 0 if held is None else held + 1)

    async def _abort(self, request_id: str, message: dict[str, Any]) -> None:
        viewer = self._drop(request_id)
        if viewer is not None:
            await self._node.control(viewer.tail.sid, Action.ABORT)

    async def _read_on(self, request_id: str, seat: Seat, held: int) -> None:
        """Send an answer from its chunk `held` on."""
        dialect = dialect_of(self._node, seat, numbered=True)
        seat, rest = await parts.placed(seat.tail, dialect, held)
        sink = Lines(self._sink, request_id)
        sink.write(rest)
        self._follow(request_id, seat, dialect, sink)

    def ended(self, name: str, viewer: Viewer, ending: Ending) -> None:
        """Tell how a request's answer ended."""
        if ending is Ending.FINAL:
            self._send("end", name)
        elif ending is Ending.SLOW:
            self.end(CLOSE[ending], ending)
        else:
            self._send("error", name, errorText="The answer is not there any more.")


_COMMANDS = {"send": ChatSocket._start, "resume": ChatSocket._resume, "abort": ChatSocket._abort}


def _body(message: dict[str, Any]) -> dict[str, Any]:
    body = message.get("body", {})
    if not isinstance(body, dict):
        raise InvalidRequest("`body` must be an object.")
    return body


@routes.get("/api/chat", allow_head=False)
@routes.get("/api/chat/ws", allow_head=False)
async def chat_socket(request: web.Request) -> web.WebSocketResponse:
    """Serve a socket for any number of chats; a message holds a whole history, as a POST's body does."""
    socket = await ChatSocket.open(request, request.client_max_size)
    return await socket.serve()
