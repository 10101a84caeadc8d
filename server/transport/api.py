"""The HTTP calls: start, look, attach, control, delete."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from server.errors import InvalidRequest
from server.session.node import Node
from server.session.state import Action
from server.transport import bodies, sse
from server.transport.bodies import Start
from server.transport.context import CONTEXT
from server.transport.sse import Form

routes = web.RouteTableDef()
PAGE = 50
FORMATS: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
"""What `?format=` of a session's events may be: each foreign dialect puts itself in."""


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a JSON response."""
    return web.Response(
        body=orjson.dumps(body),
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        content_type="application/json",
    )


def switched(request: web.Request, name: str) -> bool:
    """Say whether a query's switch is on; without a word it is off."""
    word = request.query.get(name, "false")
    if word not in ("true", "false"):
        raise InvalidRequest(f"`{name}` is true or false.")
    return word == "true"


def sid_from(request: web.Request) -> str:
    """Return the path's session id; what cannot be one is an unknown session."""
    return bodies.sid_in(request.match_info, "sid")


def location(request: web.Request, sid: str) -> str:
    """Return a session's path, under whatever path this application is mounted."""
    return f"{request.path.partition('/v1/')[0]}/v1/sessions/{sid}"


async def started(
    node: Node, start: Start, key: str | None, scope: str = "", echo: dict[str, Any] | None = None
) -> tuple[str, bool]:
    """Start a session, or find the one of this idempotency key; return its id, and whether it is new.

    Raise as `Node.start` does; `scope` is of `bodies.sid_of`.
    """
    secret = node.secret
    sid = bodies.new_sid() if key is None else bodies.sid_of(key, secret, scope)
    mark = bodies.mark_of(start.digest, sid, secret)
    new = await node.start(sid, start.request, start.options, mark, fresh=key is None, echo=echo)
    return sid, new


async def _start(request: web.Request, start: Start) -> tuple[str, bool]:
    return await started(request.app[CONTEXT].node, start, request.headers.get("Idempotency-Key"))


async def _start_and_stream(request: web.Request, start: Start, form: Form) -> web.StreamResponse:
    sid, _ = await _start(request, start)
    seat = await request.app[CONTEXT].node.seat(sid, None)
    headers = {"X-Session-Id": sid, "Location": location(request, sid)}
    return await sse.deliver(request, seat, form, headers)


@routes.post("/v1/sessions")
async def start_session(request: web.Request) -> web.StreamResponse:
    """Start a session, and stream it in the same response if a stream is asked for."""
    form, _ = sse.form_of(request), bodies.merged_in(request.query)  # refused before anything starts
    context = request.app[CONTEXT]
    start = bodies.start_of(await bodies.json_body(request), context.node.models.default)
    if form is not None:
        return await _start_and_stream(request, start, form)
    sid, new = await _start(request, start)
    headers = {"Location": location(request, sid)}
    return answer(await context.node.session(sid), 201 if new else 200, headers)


@routes.get("/v1/stream", allow_head=False)
async def one_shot(request: web.Request) -> web.StreamResponse:
    """Start and stream for a browser's EventSource, whose own reconnect goes on where it was."""
    context = request.app[CONTEXT]
    if (back := bodies.qualified_cursor(request)) is not None:
        seat = await context.node.seat(*back)
        return await sse.deliver(request, seat, sse.ONE_SHOT, {"X-Session-Id": back[0]})
    bodies.merged_in(request.query)
    query = {k: v for k, v in request.query.items() if k in ("prompt", "model")}
    start = bodies.start_of(query, context.node.models.default)
    return await _start_and_stream(request, start, sse.ONE_SHOT)


@routes.get("/v1/sessions")
async def list_sessions(request: web.Request) -> web.Response:
    """List recent sessions, newest first, `?offset=` and `?limit=` (at most 200)."""
    offset, limit = _number(request, "offset", 0, 1_000_000), _number(request, "limit", PAGE, 200)
    sessions = await request.app[CONTEXT].node.sessions(offset, limit)
    return answer({"sessions": sessions, "offset": offset, "limit": limit})


def _number(request: web.Request, name: str, default: int, top: int) -> int:
    number = bodies.number(request.query.get(name, str(default)), 7)
    if number is None or number > top:
        raise InvalidRequest(f"`{name}` must be a number from 0 to {top}.")
    return number


@routes.get("/v1/sessions/{sid}")
async def get_session(request: web.Request) -> web.Response:
    """Return the session object."""
    return answer(await request.app[CONTEXT].node.session(sid_from(request)))


@routes.get("/v1/sessions/{sid}/events", allow_head=False)
async def attach(request: web.Request) -> web.StreamResponse:
    """Stream a session from the client's cursor on."""
    if (name := request.query.get("format")) is not None:
        if name not in FORMATS:
            raise InvalidRequest(f"`format` is one of {', '.join(FORMATS)}.")
        return await FORMATS[name](request)
    after = bodies.cursor_from(request)
    form = sse.form_from(request, after)
    seat = await request.app[CONTEXT].node.seat(sid_from(request), after)
    return await sse.deliver(request, seat, form)


@routes.post("/v1/sessions/{sid}/{action:pause|resume|abort}")
async def control(request: web.Request) -> web.Response:
    """Pause, resume or abort."""
    action = Action(request.match_info["action"])
    return answer(await request.app[CONTEXT].node.control(sid_from(request), action))


@routes.delete("/v1/sessions/{sid}")
async def delete(request: web.Request) -> web.Response:
    """Abort if live, and wipe the log."""
    await request.app[CONTEXT].node.delete(sid_from(request))
    return web.Response(status=204)


@routes.get("/v1/models")
async def models(request: web.Request) -> web.Response:
    """Say what may be asked for, in OpenAI's shape."""
    names = await request.app[CONTEXT].node.models.names()
    return answer({"object": "list", "data": [model_object(name) for name in names]})


def model_object(name: str) -> dict[str, Any]:
    """Return a model in OpenAI's shape; nobody knows when it was made."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "tokenwire"}
