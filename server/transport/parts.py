"""Sends a session in a foreign dialect (`server.wire.fold`) as server-sent events.

Such a client knows no notices: it is never sent elsewhere in band, and what does not end as its dialect
says it ends is broken off, so that no cut text reads as a whole one. While the status may still
be told (`refuse`), the first event is awaited before the headers go out.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from server.errors import Gone, InvalidRequest, StoreUnavailable
from server.events import FinalEvent, decode_final
from server.session.log import Log
from server.session.node import CATCH_UP
from server.session.seat import Seat
from server.session.tail import Tail
from server.session.viewer import Dialect, Ending, Sink, Viewer
from server.transport import bodies
from server.transport.api import sid_from
from server.transport.context import CONTEXT
from server.transport.sse import opened
from server.transport.watching import SSE_SIGNS, Watching, show
from server.wire.fold import Folded
from server.wire.text import Silence

PATIENCE = 40.0
"""Seconds a status waits for the first event: longer than an upstream is asked again, and shorter than
proxies wait for headers. After that the headers go out, and a failure is told in the stream."""

Refuse = Callable[[FinalEvent], Exception | None]
"""The error to answer with for a log that ends so before any other event; None: it is no failure."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a session is to be sent: its dialect, and the response's headers.

    With `held`, its client holds so many parts of the stream and is sent the others, wherever it sits.
    With `refuse`, a failure before the first event is raised. With `stays` the client, who could not
    come back, is not sent off when this node drains.
    """

    dialect: Dialect
    headers: Mapping[str, str]
    held: int | None = None
    refuse: Refuse | None = None
    stays: bool = False


class Threshold:
    """The sink of a stream whose headers are not sent yet: keeps a first piece, then it is full."""

    def __init__(self, first: bytes = b"") -> None:
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kept = [first]
        self._opened = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Keep bytes."""
        if data:
            self._kept.append(data)
            if not self.begun.done():
                self.begun.set_result(None)

    @property
    def full(self) -> bool:
        """Whether there is something to send."""
        return self.begun.done()

    async def drain(self) -> None:
        """Wait until it was opened."""
        await self._opened.wait()

    def open(self, sink: Sink) -> None:
        """Pass on what was kept."""
        sink.write(b"".join(self._kept))
        self._opened.set()


async def folded(tail: Tail, dialect: Dialect) -> Folded:
    """Return a log's encoding, folded as far as may be read: in slices, lest a long log stop the loop."""
    while True:
        encoding = tail.encoding(dialect)
        assert isinstance(encoding, Folded)
        if encoding.advance(tail.log, tail.limit):
            return encoding
        await asyncio.sleep(0)


async def placed(tail: Tail, dialect: Dialect, held: int) -> tuple[Seat, bytes]:
    """Return where a client reads on that holds the first `held` parts, and the parts up to there.

    The log gets 2 s to come to that; then raise `InvalidRequest`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CATCH_UP
    while (place := (await folded(tail, dialect)).place(tail.log, tail.limit, held)) is None:
        if tail.log.closed or loop.time() >= deadline:
            raise InvalidRequest("The answer has not come to that chunk.")
        await asyncio.sleep(0.02)
    seq, rest = place
    return Seat(tail, tail.log.at(seq)), rest


async def go_on(request: web.Request, reply: Callable[[web.Request, Seat], Answer]) -> web.StreamResponse:
    """Stream any session in a dialect, from the client's cursor on (for `api.FORMATS`)."""
    after, sid = bodies.cursor_from(request), sid_from(request)
    seat = await request.app[CONTEXT].node.seat(sid, after)
    if seat.reset is not None:
        raise Gone("The log does not hold that event any more: read it from the start.")
    if seat.at_end:
        return web.Response(status=204)
    return await stream(request, seat, reply(request, seat))


async def stream(request: web.Request, seat: Seat, answer: Answer) -> web.StreamResponse:
    """Stream a session from `seat` on until its end, or until the client leaves."""
    first = b""
    if answer.held is not None:
        seat, first = await placed(seat.tail, answer.dialect, answer.held)
    elif seat.cursor.seq:
        await folded(seat.tail, answer.dialect)
    threshold = Threshold(first)
    with Watching(request, seat, answer.dialect, threshold, stays=answer.stays) as viewer:
        if answer.refuse is not None:
            # The first event, the end, or as long as a status may wait.
            something = (threshold.begun, viewer.ended)
            await asyncio.wait(something, timeout=PATIENCE, return_when="FIRST_COMPLETED")
            _check(viewer, answer.refuse)
        response, sink = await opened(request, {"Content-Type": "text/event-stream", **answer.headers})
        viewer.sink = sink
        threshold.open(sink)
        show(request, viewer, SSE_SIGNS)
        ending = await viewer.ended
    if ending is Ending.FINAL:
        with suppress(ConnectionError):
            await response.write_eof()
    else:
        sink.abort()
    return response


async def whole(request: web.Request, seat: Seat) -> Log:
    """Wait for a session's end, as one who watches it; return its log.

    Raise `Gone` or `StoreUnavailable` if there will be no end to see.
    """
    with Watching(request, seat, Silence(), Threshold(), stays=True) as viewer:
        _demand(await viewer.ended)
        return viewer.tail.log


def _demand(ending: Ending) -> None:
    if ending is not Ending.FINAL:
        raise Gone() if ending is Ending.GONE else StoreUnavailable()


def _check(viewer: Viewer, refuse: Refuse) -> None:
    """Raise what there is to say instead of a stream."""
    log = viewer.tail.log
    if log.closed and log.head == 1:
        error = refuse(decode_final(log.lines[0]))
        if error is not None:
            raise error
    elif viewer.ended.done():
        _demand(viewer.ended.result())
