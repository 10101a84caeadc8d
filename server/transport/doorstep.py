"""Connections, before they have asked for anything: counted by address; and requests that are none.

A connection that is too many may still send its request, to be told so in a way that its client
understands; if it does not do that at once, it is closed.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict, CIMultiDictProxy

from server.errors import InvalidRequest, TokenwireError
from server.ops.limits import Addresses, peer_of
from server.traces import trace
from server.transport.guard import Handler, error_response

log = logging.getLogger(__name__)

ADDRESSES = web.AppKey("addresses", Addresses)
_HANDSHAKE = ("Extensions", "Key", "Protocol", "Version")
_READ = ("Connection", "Expect", "Upgrade", *(f"Sec-WebSocket-{name}" for name in _HANDSHAKE))
PATIENCE = 1.0
"""Seconds for the request of a connection that is one too many."""


class _Connection(RequestHandler):
    """One client's connection; what it says wrong is neither logged nor sent back."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500 and not isinstance(exc, ConnectionError):  # who has left is no failure
            log.error("a connection failed: %s", trace(exc) if exc else status)
        if request.writer.output_size > 0:
            raise ConnectionError("The answer has begun already.")
        response = error_response(InvalidRequest() if status < 500 else TokenwireError())
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        error = kw.get("exc_info")
        if isinstance(error, web.RequestPayloadError):
            return  # what is left of a body that is none
        log.error("%s: %s", args[0], trace(error) if isinstance(error, BaseException) else "")


class _Doorstep(web.Server):
    """What makes and knows an application's connections."""

    def __init__(self, made: web.Server, addresses: Addresses, options: dict[str, Any]) -> None:
        make = partial(_asked, made.request_factory)
        super().__init__(partial(_handled, made.request_handler), request_factory=make, **options)
        self._addresses = addresses
        self._options = {k: v for k, v in options.items() if k != "handler_cancellation"}

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if not self._addresses.enter(handler, peer_of(transport)):
            transport.abort()
        elif self._addresses.is_over(handler):
            asyncio.get_running_loop().call_later(PATIENCE, handler.force_close)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._addresses.leave(handler)
        super().connection_lost(handler, exc)


def _asked(make: Callable[..., web.BaseRequest], message: Any, *rest: Any) -> web.BaseRequest:
    """Make a request; what aiohttp itself reads of its head, and would fail on, is not there."""
    headers = message.headers
    if not headers:
        return make(message, *rest)  # of what was no request at all there is not even an empty head
    if strange := [name for name in _READ if not "".join(headers.getall(name, ())).isascii()]:
        kept = CIMultiDict(headers)
        for name in strange:
            kept.popall(name)
        message = message._replace(headers=CIMultiDictProxy(kept))
    return make(message, *rest)


async def _handled(handle: Handler, request: web.Request) -> web.StreamResponse:
    """Answer a request; what aiohttp would say to a client that expects too much repeats its words."""
    try:
        return await handle(request)
    except web.HTTPExpectationFailed:
        return error_response(InvalidRequest("`Expect` can only be 100-continue."))


class Runner(web.AppRunner):
    """Runs an application, and counts its connections by address if it has `ADDRESSES`."""

    async def _make_server(self) -> web.Server:
        made, addresses = await super()._make_server(), self.app.get(ADDRESSES)
        return made if addresses is None else _Doorstep(made, addresses, self._kwargs)
