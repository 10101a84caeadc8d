"""Two-way delivery: one socket, any number of sessions, commands in-band.

Replies, notices and events all go through the socket's one sink, in the order they are written here,
so a reply to `pause` comes after the last token that was sent before it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from server.counts import COUNTS
from server.errors import BadJson, InvalidRequest, NotFound, TokenwireError, UnknownType
from server.events import Cursor
from server.session.seat import Seat
from server.session.state import Action
from server.session.viewer import Ending, Viewer
from server.traces import trace
from server.trail import SESSION
from server.transport import bodies
from server.transport.api import routes, sid_from
from server.transport.context import CONTEXT
from server.transport.guard import PROTOCOL
from server.transport.guest import CLOSE, HEARTBEAT, Guest
from server.transport.sink import RawSink, tune
from server.transport.sse import merged_of
from server.wire.native import WebSocket, text_frame

log = logging.getLogger(__name__)


class Socket:
    """One client's socket: its viewers by session, and what each message does.

    With `only` set, the socket is about that session alone and closes with it.
    """

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        self._context = request.app[CONTEXT]
        self._node = self._context.node
        self._guest = Guest(request, self._end)
        self._ws = ws
        self._sink = RawSink(request)
        self._viewers: dict[str, Viewer] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._answering = asyncio.Lock()
        self._commands: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "auth": self._guest.auth,
            "start": self._start,
            "attach": self._attach,
            "detach": self._detach,
            "pause": self._pause,
            "resume": self._resume,
            "abort": self._abort,
        }

    async def serve(self, only: Seat | None, merged: bool) -> None:
        """Answer messages until the client closes, or there is nothing more to say."""
        if only is not None:
            self._join(only, merged, alone=True)
        reading = asyncio.create_task(self._read())
        self._node.leavers.add(leave := self._move)
        self._context.heart.join(self, self._beat)
        try:
            await asyncio.wait((reading, self._over), return_when=asyncio.FIRST_COMPLETED)
            async with self._answering:  # who asked for the end is still told so
                reading.cancel()
        finally:
            self._node.leavers.discard(leave)
            self._context.heart.leave(self)
            # The reader goes first: closing while it waits would skip the closing handshake.
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            for watch in self._watches:
                watch.cancel()
            for viewer in self._viewers.values():
                viewer.leave()
        if self._over.done():
            code, why = self._over.result()
            await self._ws.close(code=code, message=why.encode())

    async def _read(self) -> None:
        async for message in self._ws:
            if message.type is WSMsgType.TEXT:
                async with self._answering:
                    await self._answer(message.data)
            elif message.type is WSMsgType.BINARY:
                self._refuse(None, BadJson("Frames are text, one JSON object each."))

    async def _answer(self, text: str) -> None:
        ref: Any = None
        SESSION.set("")
        try:
            self._guest.command()
            message = bodies.json_object(text)
            ref = message.pop("ref", None)
            kind = message.pop("type", None)
            if kind == "ping":
                self._send({"type": "pong"} | ({} if ref is None else {"ref": ref}))
                return
            command = self._commands.get(kind) if isinstance(kind, str) else None
            if command is None:
                raise UnknownType()
            reply = await command(message)
            self._send({"type": "reply", "ref": ref, "ok": True, **reply})
        except TokenwireError as error:
            self._refuse(ref, error)
        except Exception as error:
            log.error("a command failed: %s", trace(error))
            self._refuse(ref, TokenwireError())

    def _send(self, body: dict[str, Any]) -> None:
        self._sink.write(text_frame(orjson.dumps(body)))

    def _refuse(self, ref: Any, error: TokenwireError) -> None:
        COUNTS.errors[error.code] += 1
        self._send({"type": "reply", "ref": ref, "ok": False, "error": error.as_dict()})

    def _end(self, code: int, why: str) -> None:
        if not self._over.done():
            self._over.set_result((code, why))

    async def _start(self, message: dict[str, Any]) -> dict[str, Any]:
        key = message.pop("idempotency_key", None)
        if key is not None and not isinstance(key, str):
            raise InvalidRequest("`idempotency_key` must be a string.")
        node = self._node
        start = bodies.start_of(message, node.models.default)
        sid = bodies.new_sid() if key is None else bodies.sid_of(key, node.secret)
        new = await node.start(sid, start.request, start.options, start.digest, fresh=key is None)
        self._join(await self._node.seat(sid, None))
        return {"session": sid, "new": new}

    async def _attach(self, message: dict[str, Any]) -> dict[str, Any]:
        sid, after = bodies.sid_in(message), message.get("after")
        if after is not None and not isinstance(after, str):
            raise InvalidRequest("`after` must be a cursor.")
        delivery = message.get("delivery", "each")
        if delivery not in ("each", "merged"):
            raise InvalidRequest("`delivery` is one of each, merged.")
        seat = await self._node.seat(sid, bodies.cursor_of(after))
        self._join(seat, merged=delivery == "merged")
        return {"session": sid}

    def _join(self, seat: Seat, merged: bool = False, alone: bool = False) -> None:
        sid = seat.tail.sid
        self._drop(sid)
        viewer = self._viewers[sid] = self._node.join(seat, WebSocket(merged), self._sink)
        watch = asyncio.create_task(self._watch(sid, viewer, alone))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    def _move(self) -> None:
        for viewer in self._viewers.values():
            viewer.notify("moving")
        self._end(CLOSE[Ending.MOVING], Ending.MOVING)

    def _beat(self) -> None:
        if self._node.down_for() > self._context.grace:
            self._move()

    def _drop(self, sid: str) -> None:
        if (viewer := self._viewers.pop(sid, None)) is not None:
            viewer.leave()
            viewer.ended.cancel()

    async def _watch(self, sid: str, viewer: Viewer, alone: bool) -> None:
        ending = await viewer.ended
        viewer.leave()
        if self._viewers.get(sid) is viewer:
            del self._viewers[sid]
        if ending is Ending.GONE and not alone:
            self._send({"session": sid, "type": "reset", "reason": "gone", "epoch": 0})
        elif alone or ending is not Ending.FINAL:
            self._end(CLOSE[ending], ending)

    async def _detach(self, message: dict[str, Any]) -> dict[str, Any]:
        sid = bodies.sid_in(message)
        if sid not in self._viewers:
            raise NotFound("This socket is not attached to that session.")
        self._drop(sid)
        return {"session": sid}

    async def _pause(self, message: dict[str, Any]) -> dict[str, Any]:
        sid = bodies.sid_in(message)
        if bodies.viewer_scope(message):
            return self._hold(sid, held=True)
        answer = await self._node.control(sid, Action.PAUSE)
        viewer = self._viewers.get(sid)
        # What this client has not been sent by now it shall not get before the resume.
        if viewer is not None and answer["paused"]:
            viewer.frozen = True
        return {"session": sid, **answer}

    async def _resume(self, message: dict[str, Any]) -> dict[str, Any]:
        sid = bodies.sid_in(message)
        if bodies.viewer_scope(message):
            return self._hold(sid, held=False)
        return {"session": sid, **await self._node.control(sid, Action.RESUME)}

    def _hold(self, sid: str, held: bool) -> dict[str, Any]:
        viewer = self._viewers.get(sid)
        if viewer is None:
            raise NotFound("This socket is not attached to that session.")
        viewer.held = held
        viewer.push()
        log_ = viewer.tail.log
        at = Cursor(log_.epoch_at(viewer.position), viewer.position)
        return {"session": sid, "scope": "viewer", "paused": held, "id": str(at)}

    async def _abort(self, message: dict[str, Any]) -> dict[str, Any]:
        sid = bodies.sid_in(message)
        return {"session": sid, **await self._node.control(sid, Action.ABORT)}


async def _serve(request: web.Request, seat: Seat | None) -> web.WebSocketResponse:
    merged = merged_of(request)
    size = request.app[CONTEXT].max_frame
    ws = web.WebSocketResponse(
        protocols=(PROTOCOL,), compress=False, heartbeat=HEARTBEAT, max_msg_size=size
    )
    tune(request)
    await ws.prepare(request)
    with suppress(ConnectionError):
        await Socket(request, ws).serve(seat, merged)
    return ws


@routes.get("/v1/ws", allow_head=False)
async def any_session(request: web.Request) -> web.WebSocketResponse:
    """Serve a socket for any number of sessions."""
    return await _serve(request, None)


@routes.get("/v1/sessions/{sid}/ws", allow_head=False)
async def one_session(request: web.Request) -> web.WebSocketResponse:
    """Serve a socket for one session, attached at once."""
    after = bodies.cursor_of(request.query.get("after"))
    seat = await request.app[CONTEXT].node.seat(sid_from(request), after)
    return await _serve(request, seat)
