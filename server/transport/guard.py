"""What every request passes: errors answered in one place, foreign pages refused."""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from yarl import URL

from server.counts import COUNTS
from server.errors import Forbidden, MethodNotAllowed, NoSuchPath, TokenwireError, TooLarge
from server.transport.api import answer
from server.transport.context import CONTEXT

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HTTP: dict[type[web.HTTPException], type[TokenwireError]] = {
    web.HTTPNotFound: NoSuchPath,
    web.HTTPMethodNotAllowed: MethodNotAllowed,
    web.HTTPRequestEntityTooLarge: TooLarge,
}


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in the protocol's form; nobody is ever shown a stack."""
    try:
        return await handler(request)
    except TokenwireError as error:
        return error_response(error)
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
    except Exception:
        log.exception("a handler failed")
        return error_response(TokenwireError())


def error_response(error: TokenwireError) -> web.Response:
    """Return an error as an HTTP answer."""
    COUNTS.errors[error.code] += 1
    retry = {"Retry-After": f"{error.retry_after:.0f}"} if error.retry_after is not None else {}
    return answer({"error": error.as_dict()}, error.status, retry)


@web.middleware
async def origins(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what changes anything, and every socket, when a foreign page asks for it."""
    origin = request.headers.get("Origin")
    changes = request.method not in ("GET", "HEAD", "OPTIONS")
    upgrades = request.headers.get("Upgrade", "").lower() == "websocket"
    if origin is not None and (changes or upgrades) and not _known(request, origin):
        raise Forbidden("This origin is not allowed.")
    return await handler(request)


def _known(request: web.Request, origin: str) -> bool:
    if origin.lower() in request.app[CONTEXT].allow_origin:
        return True
    try:
        return URL(origin).authority == request.host
    except ValueError:
        return False
