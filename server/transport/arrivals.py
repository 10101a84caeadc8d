"""Requests, before anything else is looked at: counted by the address that they come from."""

from contextlib import AbstractContextManager

from aiohttp import web

from server.ops.limits import peer_of
from server.transport.doorstep import ADDRESSES
from server.transport.guard import Handler


def counted(request: web.Request) -> AbstractContextManager[None]:
    """Count a request, or a message that is as good as one; raise `RateLimited`, also on entering.

    Inside, it is among what is open of its address.
    """
    addresses = request.app[ADDRESSES]
    peer = peer_of(request.transport) if request.transport else None
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ())) or None
    return addresses.request(request.protocol, addresses.of(peer, forwarded))


@web.middleware
async def arrivals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count a request, also one that will be refused, and refuse what is too much of one address."""
    with counted(request):
        return await handler(request)
