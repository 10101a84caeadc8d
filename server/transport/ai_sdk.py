"""The Vercel AI SDK's chat routes, for `DefaultChatTransport` and assistant-ui as they are.

A chat is a conversation. Its client sends no cursor: coming back, it gets the whole answer again under
the same message id, and drops what it had.
"""

from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from server.errors import BadJson, Gone, NotFound
from server.session.node import Node
from server.session.seat import Seat
from server.session.state import Action
from server.transport import api, bodies, parts
from server.transport.api import answer, routes
from server.transport.context import CONTEXT
from server.transport.conversations import name_from
from server.transport.parts import Answer
from server.transport.ui_messages import chat_body, message_id
from server.wire.ai_sdk import AiSdk

_HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}


async def begin(node: Node, chat: dict[str, Any], key: str | None = None) -> Seat:
    """Start the answer of a chat; return the seat at its start."""
    start = bodies.start_of(chat_body(chat), node.models.default)
    goes_on = message_id(chat)
    echo = {"message_id": goes_on} if goes_on else None
    sid, _ = await api.started(node, start, key, echo=echo)
    return await node.seat(sid, None)


async def last(node: Node, name: str) -> Seat | None:
    """Return the seat at the start of a chat's latest answer, if that is kept."""
    with suppress(NotFound, Gone):
        return await node.seat(await node.conversation(name), None)
    return None


def live(seat: Seat) -> bool:
    """Say whether an answer is not over; one that ended behind its gate still has something to tell."""
    return not seat.tail.log.closed or seat.tail.gate is not None


def dialect_of(node: Node, seat: Seat, numbered: bool = False) -> AiSdk:
    """Return the dialect of a session's answer: under the message id that it was started with."""
    echo = node.spec(seat).echo or {}
    return AiSdk(echo.get("message_id", seat.tail.sid), numbered)


def _reply(request: web.Request, seat: Seat) -> Answer:
    # Who has read nothing yet is told first what message this is.
    held = None if seat.cursor.seq else 0
    headers = _HEADERS | {"X-Session-Id": seat.tail.sid}
    return Answer(dialect_of(request.app[CONTEXT].node, seat), headers, held)


async def _stream(request: web.Request, seat: Seat) -> web.StreamResponse:
    return await parts.stream(request, seat, _reply(request, seat))


api.FORMATS["ai-sdk"] = partial(parts.go_on, reply=_reply)


@routes.post("/api/chat")
async def send(request: web.Request) -> web.StreamResponse:
    """Start an answer, and stream it."""
    chat = await bodies.json_body(request)
    key = request.headers.get("Idempotency-Key")
    return await _stream(request, await begin(request.app[CONTEXT].node, chat, key))


@routes.get("/api/chat/{name:[^/]+}/stream", allow_head=False)
async def reconnect(request: web.Request) -> web.StreamResponse:
    """Stream the chat's answer from its start; 204 if none is live or, with `?ended=true`, kept."""
    over_too = api.switched(request, "ended")
    seat = await last(request.app[CONTEXT].node, name_from(request))
    if seat is None or not (over_too or live(seat)):
        return web.Response(status=204)
    return await _stream(request, seat)


@routes.post("/api/chat/{name:[^/]+}/stop")
async def stop(request: web.Request) -> web.Response:
    """Abort the chat's answer, unless the client names another one as the one to stop."""
    node, name, wanted = request.app[CONTEXT].node, name_from(request), None
    if request.can_read_body:
        with suppress(BadJson):
            wanted = (await bodies.json_body(request)).get("activeStreamId")
    try:
        sid = await node.conversation(name)
        stale = wanted is not None and wanted != sid
        told = {} if stale else await node.control(sid, Action.ABORT)
    except (NotFound, Gone):
        told = {}
    return answer({"success": True, **told})
