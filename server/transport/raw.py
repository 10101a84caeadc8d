"""A session's text or bytes as one body, live, under the upstream's content type."""

import asyncio
from dataclasses import replace

from aiohttp import web

from server.errors import Draining, Gone
from server.events import decode
from server.session.seat import Seat
from server.session.viewer import Ending
from server.transport import sse
from server.transport.api import routes, sid_from
from server.transport.context import CONTEXT
from server.transport.parts import Threshold
from server.transport.watching import Watching
from server.wire.raw import Raw, content_type

_SANDBOX = {"Content-Security-Policy": "default-src 'none'; sandbox"}
"""An upstream's page is shown as one from nowhere, not as one of this server's."""


@routes.get("/v1/sessions/{sid}/raw")
async def raw(request: web.Request) -> web.StreamResponse:
    """Stream the body; its headers wait for the first event, which says what it is."""
    seat = await request.app[CONTEXT].node.seat(sid_from(request), None)
    await _begun(request, seat)
    log = seat.tail.log
    form = replace(sse.RAW, content_type=content_type(map(decode, log.lines)))
    return await sse.deliver(request, seat, form, _SANDBOX)


async def _begun(request: web.Request, seat: Seat) -> None:
    """Wait, as one who watches, for something to show or for the end."""
    threshold = Threshold()
    with Watching(request, seat, Raw(), threshold) as viewer:
        await asyncio.wait((threshold.begun, viewer.ended), return_when=asyncio.FIRST_COMPLETED)
        if not threshold.begun.done() and viewer.ended.result() is not Ending.FINAL:
            raise Gone() if viewer.ended.result() is Ending.GONE else Draining()
