"""`GET /v1/inspect`: what all nodes and their sessions do, an event a second, for operators."""

import asyncio
import random
from contextlib import suppress
from functools import partial

from aiohttp import web

from server.errors import Draining
from server.events import Cursor
from server.session.feed import Feed
from server.session.viewer import RETRY_MS
from server.transport import bodies
from server.transport.api import routes
from server.transport.context import CONTEXT
from server.transport.sink import RawSink
from server.transport.sse import opened
from server.wire import native

PATIENCE = 30.0
"""Seconds in which an inspector may take nothing."""
_FORMAT = native.Sse().encoding("")


@routes.get("/v1/inspect", allow_head=False)
async def inspect(request: web.Request) -> web.StreamResponse:
    """Stream the seconds behind the client's cursor, as long as it stays."""
    context = request.app[CONTEXT]
    node, after = context.node, bodies.cursor_from(request)
    if node.draining:
        raise Draining()
    moving = asyncio.get_running_loop().create_future()
    leave = partial(_resolve, moving)
    with context.inspection.watched() as feed:
        response, sink = await opened(request, {"Content-Type": "text/event-stream"})
        node.leavers.add(leave)
        try:
            await _follow(request, sink, feed, after, moving)
        except TimeoutError:
            sink.abort()
        finally:
            node.leavers.discard(leave)
    with suppress(ConnectionError):
        await response.write_eof()
    return response


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _follow(
    request: web.Request,
    sink: RawSink,
    feed: Feed,
    after: Cursor | None,
    moving: asyncio.Future[None],
) -> None:
    """Send what the feed has, again and again, until the client is gone or has to go elsewhere."""
    inspection, retry = request.app[CONTEXT].inspection, random.randint(*RETRY_MS)
    sink.write(b": tokenwire\nretry: %d\n\n" % retry)
    position = after.seq if after is not None and feed.holds(after) else 0
    if after is not None and not feed.holds(after):
        sink.write(_FORMAT.notice("reset", {"reason": "diverged", "epoch": feed.epoch}))
    while request.transport is not None and not moving.done():
        for seq, line in feed.since(position):
            sink.write(_FORMAT.frame(feed.epoch, seq, line))
            position = seq
        async with asyncio.timeout(PATIENCE):
            await sink.drain()
        if position == feed.head:
            await asyncio.wait((inspection.grown, moving), return_when="FIRST_COMPLETED")
    if moving.done():
        sink.write(_FORMAT.notice("moving", {"retry": random.randint(*RETRY_MS)}))
