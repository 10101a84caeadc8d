"""What every request passes: errors answered in one place."""

import logging
import math
from collections.abc import Awaitable, Callable

from aiohttp import web

from server.counts import COUNTS
from server.errors import (
    Draining,
    ForeignPage,
    InvalidRequest,
    MethodNotAllowed,
    NoSuchPath,
    RateLimited,
    StoreUnavailable,
    TokenwireError,
    TooLarge,
)
from server.traces import trace
from server.transport import sse
from server.transport.api import answer
from server.transport.context import CONTEXT

log = logging.getLogger(__name__)

PROTOCOL = "tokenwire.v1"
"""The WebSocket subprotocol; a ticket may stand beside it as `ticket.<ticket>`."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HTTP: dict[type[web.HTTPException], type[TokenwireError]] = {
    web.HTTPBadRequest: InvalidRequest,  # no upgrade where a socket was to be opened
    web.HTTPNotFound: NoSuchPath,
    web.HTTPMethodNotAllowed: MethodNotAllowed,
    web.HTTPRequestEntityTooLarge: TooLarge,
}


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in the protocol's form; nobody is ever shown a stack.

    A node that leaves keeps no connection open behind an answer: who asks again has to find another one,
    or, behind the same port, its successor.
    """
    response = await _answered(request, handler)
    if request.app[CONTEXT].node.leaving:
        response.force_close()
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except TokenwireError as error:
        return await _refused(request, error)
    except web.HTTPException as error:
        known = _HTTP.get(type(error))
        if known is None:
            raise
        response = error_response(known())
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except ConnectionError:
        return web.Response(status=499)  # the client has left: nobody reads this
    except Exception as error:
        log.error("a handler failed: %s", trace(error))
        return error_response(TokenwireError())


async def _refused(request: web.Request, error: TokenwireError) -> web.StreamResponse:
    """Answer an error so that the kind of client that asked can make something of it."""
    passing = isinstance(error, RateLimited | StoreUnavailable | Draining)
    if passing and sse.for_event_source(request):
        COUNTS.errors[error.code] += 1
        return await sse.come_back(request, error)
    # A close code has to say no less than the status would.
    telling = error.close >= 4000 or error.close == Draining.close
    if upgrades(request) and telling and not isinstance(error, ForeignPage):
        return await _closed(request, error)
    return error_response(error)


def upgrades(request: web.Request) -> bool:
    """Say whether a request opens a socket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def _closed(request: web.Request, error: TokenwireError) -> web.StreamResponse:
    """Close a socket with the error's code: a browser tells nobody why a handshake failed."""
    ws = web.WebSocketResponse(protocols=(PROTOCOL,), compress=False)
    if not ws.can_prepare(request):
        return error_response(error)
    COUNTS.errors[error.code] += 1
    await ws.prepare(request)
    await ws.close(code=error.close, message=error.code.encode())
    return ws


def error_response(error: TokenwireError) -> web.Response:
    """Return an error as an HTTP answer."""
    COUNTS.errors[error.code] += 1
    headers = {"Retry-After": f"{math.ceil(error.retry_after)}"} if error.retry_after is not None else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return answer({"error": error.as_dict()}, error.status, headers)
