"""Gives every request a name, under which its log lines and its span are found."""

import logging
import re
import secrets
import time

from aiohttp import web

from server.trail import REQUEST, SESSION, span
from server.transport.guard import Handler

log = logging.getLogger(__name__)

HEADER = "X-Request-Id"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


@web.middleware
async def requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Take the name that a proxy has given the request, or give it one; say how it went."""
    given = request.headers.get(HEADER, "")
    REQUEST.set(given if _NAME.fullmatch(given) else secrets.token_hex(8))
    SESSION.set("")
    route = request.match_info.route.resource
    # The pattern, not the path or the query: they hold what identifies or admits a client.
    path = route.canonical if route is not None else "?"
    began = time.monotonic()
    parent = request.headers.get("traceparent", "")
    with span(f"{request.method} {path}", traceparent=parent, request=REQUEST.get()) as told:
        response = await handler(request)
        told.tell(status=response.status, session=SESSION.get())
    took = (time.monotonic() - began) * 1000
    log.debug("%s %s %d in %.1f ms", request.method, path, response.status, took)
    return response


async def answers(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the client its request's name, before the first byte, unless a dialect has said one."""
    response.headers.setdefault(HEADER, REQUEST.get())
