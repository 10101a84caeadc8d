"""Two-way delivery: one socket, any number of sessions, commands in-band.

A reply to `pause` comes after the last token that was sent before it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from server.errors import InvalidRequest, NotFound, TokenwireError, UnknownType
from server.session.seat import Seat
from server.session.state import Action
from server.session.viewer import Ending, Viewer
from server.transport import bodies
from server.transport.api import routes, sid_from, started
from server.transport.context import CONTEXT
from server.transport.dialogue import CLOSE, Dialogue, checked
from server.wire.native import WebSocket, text_frame


class Socket(Dialogue):
    """What each message of a client does; its viewers go by session."""

    __slots__ = ("_only",)

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        super().__init__(request, ws)
        self._only: Viewer | None = None

    async def answer(self, text: str) -> None:
        """Do what a message asks for, and reply."""
        self._guest.command()
        message = bodies.json_object(text)
        ref = self._ref = checked("ref", message.pop("ref", None))
        kind = message.pop("type", None)
        if kind == "ping":
            self._send({"type": "pong"} | ({} if ref is None else {"ref": ref}))
            return
        command = _COMMANDS.get(kind) if isinstance(kind, str) else None
        if command is None:
            raise UnknownType()
        reply = await command(self, message)
        self._send({"type": "reply", "ref": ref, "ok": True, **reply})

    def refuse(self, error: TokenwireError) -> None:
        """Reply that the message at hand failed, and how."""
        self._send({"type": "reply", "ref": self._ref, "ok": False, "error": error.as_dict()})

    def _send(self, body: dict[str, Any]) -> None:
        self._sink.write(text_frame(orjson.dumps(body)))

    async def auth(self, message: dict[str, Any]) -> dict[str, Any]:
        """Say whose the socket is."""
        return await self._guest.auth(message)

    async def start(self, message: dict[str, Any]) -> dict[str, Any]:
        """Start a session, and read it here."""
        key = message.pop("idempotency_key", None)
        if key is not None and not isinstance(key, str):
            raise InvalidRequest("`idempotency_key` must be a string.")
        start = bodies.start_of(message, self._node.models.default)
        await self._guest.request()
        sid, new = await started(self._node, start, key)
        self.join(await self._node.seat(sid, None))
        return {"session": sid, "new": new}

    async def attach(self, message: dict[str, Any]) -> dict[str, Any]:
        """Read a session here, from a cursor on."""
        sid, after = bodies.sid_in(message, "session"), message.get("after")
        if after is not None and not isinstance(after, str):
            raise InvalidRequest("`after` must be a cursor.")
        merged = bodies.merged_in(message)
        await self._guest.request()
        self.join(await self._node.seat(sid, bodies.cursor_of(after)), merged)
        return {"session": sid}

    def join(self, seat: Seat, merged: bool = False, alone: bool = False) -> None:
        """Read a session from `seat` on; with `alone`, the socket is about it and closes with it."""
        viewer = self._follow(seat.tail.sid, seat, WebSocket(merged), self._sink)
        if alone:
            self._only = viewer

    def ended(self, name: str, viewer: Viewer, ending: Ending) -> None:
        """Tell of a session that is gone, or close the socket."""
        alone = viewer is self._only
        if ending is Ending.GONE and not alone:
            self._send({"session": name, "type": "reset", "reason": "gone", "epoch": 0})
        elif alone or ending is not Ending.FINAL:
            self.end(CLOSE[ending], ending)

    async def detach(self, message: dict[str, Any]) -> dict[str, Any]:
        """Read a session here no more."""
        sid = bodies.sid_in(message, "session")
        if self._drop(sid) is None:
            raise NotFound("This socket is not attached to that session.")
        return {"session": sid}

    async def pause(self, message: dict[str, Any]) -> dict[str, Any]:
        """Pause a session, or what this socket reads of it."""
        sid = bodies.sid_in(message, "session")
        if bodies.viewer_scope(message):
            return self._hold(sid, held=True)
        answer = await self._control(sid, Action.PAUSE)
        viewer = self._viewers.get(sid)
        # What this client has not been sent by now it shall not get before the resume.
        if viewer is not None and answer["paused"]:
            viewer.frozen = True
        return {"session": sid, **answer}

    async def resume(self, message: dict[str, Any]) -> dict[str, Any]:
        """Resume what `pause` stopped."""
        sid = bodies.sid_in(message, "session")
        if bodies.viewer_scope(message):
            return self._hold(sid, held=False)
        return {"session": sid, **await self._control(sid, Action.RESUME)}

    def _hold(self, sid: str, held: bool) -> dict[str, Any]:
        viewer = self._viewers.get(sid)
        if viewer is None:
            raise NotFound("This socket is not attached to that session.")
        viewer.held = held
        viewer.push()
        at = viewer.tail.log.at(viewer.position)
        return {"session": sid, "scope": "viewer", "paused": held, "id": str(at)}

    async def abort(self, message: dict[str, Any]) -> dict[str, Any]:
        """Abort a session."""
        sid = bodies.sid_in(message, "session")
        return {"session": sid, **await self._control(sid, Action.ABORT)}

    async def _control(self, sid: str, action: Action) -> dict[str, Any]:
        await self._guest.request()
        return await self._node.control(sid, action)


_COMMANDS: dict[str, Callable[[Socket, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "auth": Socket.auth,
    "start": Socket.start,
    "attach": Socket.attach,
    "detach": Socket.detach,
    "pause": Socket.pause,
    "resume": Socket.resume,
    "abort": Socket.abort,
}


async def _opened(request: web.Request) -> Socket:
    return await Socket.open(request, request.app[CONTEXT].max_frame)


@routes.get("/v1/ws", allow_head=False)
async def any_session(request: web.Request) -> web.WebSocketResponse:
    """Serve a socket for any number of sessions."""
    socket = await _opened(request)
    return await socket.serve()


@routes.get("/v1/sessions/{sid}/ws", allow_head=False)
async def one_session(request: web.Request) -> web.WebSocketResponse:
    """Serve a socket for one session, attached at once."""
    after = bodies.cursor_of(request.query.get("after"))
    seat = await request.app[CONTEXT].node.seat(sid_from(request), after)
    merged = bodies.merged_in(request.query)
    socket = await _opened(request)
    socket.join(seat, merged, alone=True)
    return await socket.serve()
