"""A viewer over HTTP, minded while it is there: is its client, is Redis, does this node leave?

There are thousands of them, so what each keeps is small.
"""

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


class Watching:
    """A viewer for the length of a `with`, sent off when this node drains unless it `stays`.

    `facts` are for its `session` notice.
    """

    __slots__ = ("_context", "_leave", "_viewer")

    def __init__(
        self,
        request: web.Request,
        seat: Seat,
        dialect: Dialect,
        sink: Sink,
        signs: Signs = SILENT,
        *,
        stays: bool = False,
        **facts: Any,
    ) -> None:
        self._context = request.app[CONTEXT]
        self._viewer = self._context.node.join(seat, dialect, sink, **facts)
        self._leave = self._viewer.move
        show(request, self._viewer, signs)
        if not stays:
            self._context.node.leavers.add(self._leave)

    def __enter__(self) -> Viewer:
        return self._viewer

    def __exit__(self, *failure: object) -> None:
        self._context.node.leavers.discard(self._leave)
        self._context.heart.leave(self._viewer)
        self._viewer.leave()


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
