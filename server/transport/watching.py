"""A viewer over HTTP, minded while it is there: is its client, is Redis, does this node leave?"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from aiohttp import web

from server.session.seat import Seat
from server.session.viewer import Dialect, Ending, Sink, Viewer
from server.transport.context import CONTEXT
from server.wire import native


class Signs(NamedTuple):
    """A format's signs of life: that all is well, and that Redis is away."""

    alive: bytes = b""
    degraded: bytes = b""


SILENT = Signs()
SSE_SIGNS = Signs(native.KEEP_ALIVE, native.DEGRADED)


@contextmanager
def watching(
    request: web.Request,
    seat: Seat,
    dialect: Dialect,
    sink: Sink,
    signs: Signs = SILENT,
    *,
    stays: bool = False,
    **facts: Any,
) -> Iterator[Viewer]:
    """Join as a viewer, who is sent off when this node drains unless it `stays`.

    `facts` are for its `session` notice.
    """
    node, heart = request.app[CONTEXT].node, request.app[CONTEXT].heart
    viewer = node.join(seat, dialect, sink, **facts)
    leave = viewer.move
    show(request, viewer, signs)
    if not stays:
        node.leavers.add(leave)
    try:
        yield viewer
    finally:
        node.leavers.discard(leave)
        heart.leave(viewer)
        viewer.leave()


def show(request: web.Request, viewer: Viewer, signs: Signs) -> None:
    """Give a viewer these signs of life from now on."""
    request.app[CONTEXT].heart.join(viewer, partial(_beat, request, viewer, signs))


def _beat(request: web.Request, viewer: Viewer, signs: Signs) -> None:
    """Give a quiet stream a sign of life, or end it: its client or Redis has been gone too long."""
    context = request.app[CONTEXT]
    down = context.node.down_for(viewer.tail.sid)
    if request.transport is None:
        viewer.end(Ending.LOST)  # without handler_cancellation nobody else would notice
    elif down > context.grace:
        viewer.end(Ending.MOVING)
    else:
        viewer.sink.write(signs.degraded if down else signs.alive)
