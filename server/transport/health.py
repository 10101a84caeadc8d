"""For load balancers: is this process alive, and should it be sent anything?"""

from aiohttp import web

from server.errors import Draining, StoreUnavailable
from server.transport.api import answer, routes
from server.transport.context import CONTEXT


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """Say that the event loop turns."""
    return answer({"status": "ok"})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """Say whether new clients are welcome: not while draining, nor without Redis."""
    node = request.app[CONTEXT].node
    if node.draining:
        raise Draining()
    if node.down_for():
        raise StoreUnavailable()
    return answer({"status": "ready"})
