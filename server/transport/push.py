"""Pushing: a streaming request body is a session's upstream."""

from collections.abc import AsyncGenerator

from aiohttp import web

from server.errors import WrongNode
from server.transport import bodies, guard
from server.transport.api import answer, routes, sid_from
from server.transport.context import CONTEXT


@routes.put("/v1/sessions/{sid}/events")
@routes.post("/v1/sessions/{sid}/events")
async def push(request: web.Request) -> web.Response:
    """Append a body's events as they come (PUT is what `curl -T-` sends)."""
    node, head = request.app[CONTEXT].node, bodies.head_of(request)
    try:
        return answer(await node.push(sid_from(request), head, _pieces(request)))
    except WrongNode as error:
        # The same connection would lead to the same node.
        response = guard.error_response(error)
        response.force_close()
        return response


async def _pieces(request: web.Request) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in request.content.iter_any():
            yield piece
    except web.RequestPayloadError:
        raise ConnectionResetError from None
