"""The protocol of the Vercel AI SDK's `WebSocketChatTransport`: many chats' answers on one socket.

A client sends `send`, `resume` and `abort`, each with a `requestId` under which it is answered: `start`,
`chunk` (`sequence` rises by one, from 0), `end`, `error` or `no-active`. An abort ends the generation; a
socket that closes does not.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from aiohttp import WSMsgType, web

from server.errors import BadJson, InvalidRequest, TokenwireError, UnknownType
from server.events import Cursor
from server.session.node import CATCH_UP
from server.session.seat import Seat
from server.session.state import Action
from server.session.viewer import Ending, Viewer
from server.traces import trace
from server.transport import bodies
from server.transport.ai_sdk import begin, dialect_of, last, live
from server.transport.api import routes
from server.transport.context import CONTEXT
from server.transport.guard import PROTOCOL
from server.transport.guest import CLOSE, HEARTBEAT, Guest
from server.transport.parts import folded
from server.transport.sink import RawSink, tune
from server.wire.native import text_frame

log = logging.getLogger(__name__)


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


class _Reading(NamedTuple):
    sid: str
    viewer: Viewer


class ChatSocket:
    """One client's socket: the answers that it reads, by request."""

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        self._context = request.app[CONTEXT]
        self._node = self._context.node
        self._ws = ws
        self._sink = RawSink(request)
        self._readings: dict[str, _Reading] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._guest = Guest(request, lambda code, why: self._close(code))
        self._commands = {"send": self._start, "resume": self._resume, "abort": self._abort}

    async def serve(self) -> None:
        """Answer requests until the client closes, or this node has to."""
        reading = asyncio.create_task(self._read())
        self._node.leavers.add(leave := self._move)
        self._context.heart.join(self, self._beat)
        try:
            await asyncio.wait((reading, self._over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._node.leavers.discard(leave)
            self._context.heart.leave(self)
            # The reader goes first: closing while it waits would skip the closing handshake.
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            for watch in self._watches:
                watch.cancel()
            for reading_ in self._readings.values():
                reading_.viewer.leave()
        if self._over.done():
            await self._ws.close(code=self._over.result())

    async def _read(self) -> None:
        async for message in self._ws:
            if message.type is WSMsgType.TEXT:
                await self._answer(message.data)
            elif message.type is WSMsgType.BINARY:
                self._close(InvalidRequest.close)

    async def _answer(self, text: str) -> None:
        request_id: Any = None
        try:
            message = bodies.json_object(text)
            request_id = message.get("requestId")
            if not isinstance(request_id, str):
                raise InvalidRequest("`requestId` must be a string.")
            self._guest.command()
            command = self._commands.get(str(message.get("type")))
            if command is None:
                raise UnknownType()
            await command(request_id, message)
        except TokenwireError as error:
            self._refuse(request_id, error)
        except Exception as error:
            log.error("a request failed: %s", trace(error))
            self._refuse(request_id, TokenwireError())

    def _refuse(self, request_id: Any, error: TokenwireError) -> None:
        """Say so; who cannot be told, since nothing says which request it was, is hung up on."""
        if not isinstance(request_id, str):
            self._close(BadJson.close)
        else:
            self._send("error", request_id, errorText=error.message)

    def _send(self, kind: str, request_id: str, **fields: Any) -> None:
        self._sink.write(text_frame(orjson.dumps({"type": kind, "requestId": request_id, **fields})))

    def _close(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(code)

    def _move(self) -> None:
        self._close(CLOSE[Ending.MOVING])

    def _beat(self) -> None:
        if self._node.down_for() > self._context.grace:
            self._move()

    async def _start(self, request_id: str, message: dict[str, Any]) -> None:
        chat = {**_body(message), "id": message.get("id"), "messages": message.get("messages")}
        await self._follow(request_id, await begin(self._node, chat), 0)

    async def _resume(self, request_id: str, message: dict[str, Any]) -> None:
        name, held = message.get("id"), message.get("lastSequence")
        _body(message)
        if not isinstance(name, str):
            raise InvalidRequest("`id` must be a string.")
        if held is not None and (type(held) is not int or held < 0):
            raise InvalidRequest("`lastSequence` must be a number, 0 or more.")
        seat = await last(self._node, name)
        # Who holds a part of an answer gets the rest even when it is over.
        if seat is None or (held is None and not live(seat)):
            self._send("no-active", request_id)
            return
        self._send("start", request_id)
        await self._follow(request_id, seat, 0 if held is None else held + 1)

    async def _abort(self, request_id: str, message: dict[str, Any]) -> None:
        reading = self._drop(request_id)
        if reading is not None:
            await self._node.control(reading.sid, Action.ABORT)

    async def _follow(self, request_id: str, seat: Seat, held: int) -> None:
        """Send an answer from its chunk `held` on."""
        dialect, loop = dialect_of(self._node, seat, numbered=True), asyncio.get_running_loop()
        tail, until = seat.tail, loop.time() + CATCH_UP
        while True:
            encoding = await folded(tail, dialect)
            if (place := encoding.place(tail.log, tail.limit, held)) is not None:
                break
            if loop.time() >= until:
                raise InvalidRequest("The answer has not come to that chunk.")
            await asyncio.sleep(0.02)
        seq, rest = place
        sink = Lines(self._sink, request_id)
        sink.write(rest)
        log_ = tail.log
        cursor = Cursor(log_.epoch_at(seq) if seq else log_.epoch, seq)
        self._drop(request_id)
        viewer = self._node.join(Seat(tail, cursor), dialect, sink)
        self._readings[request_id] = _Reading(tail.sid, viewer)
        watch = asyncio.create_task(self._watch(request_id, viewer))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    def _drop(self, request_id: str) -> _Reading | None:
        reading = self._readings.pop(request_id, None)
        if reading is not None:
            reading.viewer.leave()
            reading.viewer.ended.cancel()
        return reading

    async def _watch(self, request_id: str, viewer: Viewer) -> None:
        ending = await viewer.ended
        viewer.leave()
        reading = self._readings.get(request_id)
        if reading is None or reading.viewer is not viewer:
            return
        del self._readings[request_id]
        if ending is Ending.FINAL:
            self._send("end", request_id)
        elif ending is Ending.SLOW:
            self._close(CLOSE[ending])
        else:
            self._send("error", request_id, errorText="The answer is not there any more.")


def _body(message: dict[str, Any]) -> dict[str, Any]:
    body = message.get("body", {})
    if not isinstance(body, dict):
        raise InvalidRequest("`body` must be an object.")
    return body


@routes.get("/api/chat", allow_head=False)
@routes.get("/api/chat/ws", allow_head=False)
async def chat_socket(request: web.Request) -> web.WebSocketResponse:
    """Serve a socket for any number of chats; a message holds a whole history, as a POST's body does."""
    size = request.client_max_size
    ws = web.WebSocketResponse(
        protocols=(PROTOCOL,), compress=False, heartbeat=HEARTBEAT, max_msg_size=size
    )
    tune(request)
    await ws.prepare(request)
    with suppress(ConnectionError):
        await ChatSocket(request, ws).serve()
    return ws
