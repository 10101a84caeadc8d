"""The calls of a conversation: those of a session, to whichever of its sessions is the newest.

Event ids are qualified, so a client that comes back with the cursor of an older session is told to
drop what it has, and reads the newest from its start.
"""

from aiohttp import web

from server.errors import NotFound
from server.events import Cursor
from server.session.seat import Seat
from server.session.state import Action
from server.transport import bodies, sse
from server.transport.api import answer, routes
from server.transport.context import CONTEXT

NAME = 200


def name_from(request: web.Request) -> str:
    """Return the path's conversation; what cannot be one is unknown."""
    name = request.match_info["name"]
    if len(name) > NAME:
        raise NotFound()
    return name


async def _newest(request: web.Request) -> str:
    return await request.app[CONTEXT].node.conversation(name_from(request))


@routes.get("/v1/conversations/{name:[^/]+}")
async def get_conversation(request: web.Request) -> web.Response:
    """Return the newest session."""
    return answer(await request.app[CONTEXT].node.session(await _newest(request)))


@routes.post("/v1/conversations/{name:[^/]+}/{action:pause|resume|abort}")
async def control(request: web.Request) -> web.Response:
    """Pause, resume or abort the newest session."""
    action = Action(request.match_info["action"])
    sid = await _newest(request)
    return answer({"session": sid, **await request.app[CONTEXT].node.control(sid, action)})


@routes.delete("/v1/conversations/{name:[^/]+}")
async def delete(request: web.Request) -> web.Response:
    """Abort the newest session if it is live, and wipe its log."""
    await request.app[CONTEXT].node.delete(await _newest(request))
    return web.Response(status=204)


@routes.get("/v1/conversations/{name:[^/]+}/events")
async def attach(request: web.Request) -> web.StreamResponse:
    """Stream the newest session from the client's cursor on."""
    of, after = bodies.conversation_cursor(request)
    form = sse.form_from(request, after)
    seat = await _seat(request, of, after)
    headers = {"X-Session-Id": seat.tail.sid}
    return await sse.deliver(request, seat, sse.ONE_SHOT if form is sse.SSE else form, headers)


async def _seat(request: web.Request, of: str | None, after: Cursor | None) -> Seat:
    node, sid = request.app[CONTEXT].node, await _newest(request)
    if of is None or of == sid:
        return await node.seat(sid, after)
    seat = await node.seat(sid, None)
    return Seat(seat.tail, Cursor(seat.cursor.epoch, 0), reset="superseded")
