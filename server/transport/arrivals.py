"""Requests, before anything else is looked at: counted by the address that they come from."""

from aiohttp import web

from server.ops.limits import peer_of
from server.transport.doorstep import ADDRESSES
from server.transport.guard import Handler


@web.middleware
async def arrivals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count a request, also one that will be refused, and refuse what is too much of one address."""
    addresses = request.app[ADDRESSES]
    peer = peer_of(request.transport) if request.transport else None
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ())) or None
    with addresses.request(request.protocol, addresses.of(peer, forwarded)):
        return await handler(request)
