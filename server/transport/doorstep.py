"""Connections, before they have asked for anything: counted by address.

One that is too many may still send its request, to be told so in a way that its client understands; if it
does not do that at once, it is closed.
"""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from server.ops.limits import Addresses

PATIENCE = 1.0
"""Seconds for the request of a connection that is one too many."""


class _Doorstep(web.Server):
    """What makes and knows an application's connections."""

    def __init__(self, made: web.Server, addresses: Addresses, **options: Any) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **options,
        )
        self._addresses = addresses

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        peer = transport.get_extra_info("peername")
        if not self._addresses.enter(handler, peer[0] if isinstance(peer, tuple) else None):
            transport.abort()
        elif self._addresses.is_over(handler):
            asyncio.get_running_loop().call_later(PATIENCE, self._lose, handler)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._addresses.leave(handler)
        super().connection_lost(handler, exc)

    def _lose(self, handler: RequestHandler) -> None:
        # One that did ask has been answered by now.
        handler.force_close()


class Runner(web.AppRunner):
    """Runs an application, and counts its connections by address."""

    def __init__(self, app: web.Application, addresses: Addresses, **options: Any) -> None:
        super().__init__(app, **options)
        self._addresses = addresses

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Doorstep(made, self._addresses, **self._kwargs)
