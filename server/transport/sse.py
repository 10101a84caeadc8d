"""One-way delivery: a session as server-sent events, as NDJSON, or as plain text."""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp_sse import EventSourceResponse

from server.errors import InvalidRequest, TokenwireError
from server.session.seat import Seat
from server.session.viewer import RETRY_MS, Dialect, Ending, Viewer
from server.transport.context import CONTEXT
from server.transport.sink import ChunkSink, RawSink, tune
from server.wire import native
from server.wire.raw import Raw
from server.wire.text import Text

_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class _Stream(EventSourceResponse):
    async def _ping(self) -> None:
        """Send none: the keep-alive is ours, the library's would end in a blank line."""


@dataclass(frozen=True, slots=True)
class Form:
    """A body's form: its dialect, what keeps it alive, what ends it.

    A form that is `bare` has no way to say that a session failed, so it breaks off instead.
    """

    dialect: Callable[[bool], Dialect]
    content_type: str
    keep_alive: bytes = b""
    degraded: bytes = b""
    end: bytes = b""
    bare: bool = False


SSE = Form(native.Sse, "text/event-stream", native.KEEP_ALIVE, native.DEGRADED, native.DONE)
ONE_SHOT = Form(
    lambda merged: native.Sse(merged, qualified=True),
    "text/event-stream",
    native.KEEP_ALIVE,
    native.DEGRADED,
    native.DONE,
)
_PING = b'{"type":"ping"}\n'
NDJSON = Form(native.Ndjson, "application/x-ndjson", _PING, _PING)
TEXT = Form(lambda _: Text(), "text/plain; charset=utf-8", bare=True)
RAW = Form(lambda _: Raw(), "application/octet-stream", bare=True)
FORMS = {"sse": SSE, "ndjson": NDJSON, "text": TEXT}
_ACCEPTED = {"text/event-stream": SSE, "application/x-ndjson": NDJSON, "text/plain": TEXT}


def form_of(request: web.Request) -> Form | None:
    """Return the form that `?stream=` or `Accept` asks for, if any."""
    asked = request.query.get("stream")
    if asked is not None:
        if asked not in FORMS:
            raise InvalidRequest("`stream` is one of sse, ndjson, text.")
        return FORMS[asked]
    accept = request.headers.get("Accept", "").partition(";")[0].partition(",")[0].strip()
    return _ACCEPTED.get(accept)


def merged_of(request: web.Request) -> bool:
    """Say whether `?delivery=merged` was asked for."""
    delivery = request.query.get("delivery", "each")
    if delivery not in ("each", "merged"):
        raise InvalidRequest("`delivery` is one of each, merged.")
    return delivery == "merged"


async def deliver(
    request: web.Request, seat: Seat, form: Form, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    """Stream a session from `seat` on until its end, or until the client leaves."""
    merged = merged_of(request)
    response, sink = await opened(request, {"Content-Type": form.content_type} | (headers or {}))
    node = request.app[CONTEXT].node
    facts: dict[str, Any] = {"retry": random.randint(*RETRY_MS)}
    if form is ONE_SHOT:
        # Who drops before the first event must not start a second generation.
        facts["cursor"] = f"{seat.tail.sid}.{seat.cursor}"
    viewer = node.join(seat, form.dialect(merged), sink, **facts)
    heart, leave = request.app[CONTEXT].heart, viewer.move
    heart.join(viewer, partial(beat, request, viewer, form.keep_alive, form.degraded))
    node.leavers.add(leave)
    try:
        ending = await viewer.ended
    finally:
        node.leavers.discard(leave)
        heart.leave(viewer)
        viewer.leave()
    await _finish(response, sink, viewer, form, ending)
    return response


async def opened(request: web.Request, headers: dict[str, str]) -> tuple[web.StreamResponse, RawSink]:
    """Send the headers of a stream; return its response, and the sink for its body."""
    tune(request)
    response = _Stream(sep="\n", allow_all_methods=True, send_timeout=None)
    response.headers.update(_HEADERS | headers)
    await response.prepare(request)
    request.writer.send_headers()
    response.headers.clear()  # 2 kB that nobody looks at again, in a viewer that may stay for hours
    chunked = request.version >= HttpVersion11
    return response, ChunkSink(request) if chunked else RawSink(request)


def beat(request: web.Request, viewer: Viewer, keep_alive: bytes, degraded: bytes) -> None:
    """Give a quiet stream a sign of life, or end it: its client or Redis has been gone too long."""
    context = request.app[CONTEXT]
    down = context.node.down_for(viewer.tail.sid)
    if request.transport is None:
        viewer.end(Ending.LOST)  # without handler_cancellation nobody else would notice
    elif down > context.grace:
        viewer.end(Ending.MOVING)
    else:
        viewer.sink.write(degraded if down else keep_alive)


async def _finish(
    response: web.StreamResponse, sink: RawSink, viewer: Viewer, form: Form, ending: Ending
) -> None:
    whole = ending is Ending.FINAL and not (form.bare and viewer.tail.log.failed)
    if ending in (Ending.SLOW, Ending.LOST) or (form.bare and not whole):
        sink.abort()
        return
    if whole:
        sink.write(form.end)
    with suppress(ConnectionError):
        await response.write_eof()


def for_event_source(request: web.Request) -> bool:
    """Say whether an EventSource may have sent this, which any status but 200 would end for good."""
    path = request.path
    whole = path.endswith(("/v1/stream", "/v1/inspect"))
    streams = whole or ("/v1/" in path and path.endswith("/events"))
    if request.method != "GET" or not streams or "format" in request.query:
        return False
    return request.query.get("stream", "sse") == "sse" and form_of(request) in (None, SSE)


async def come_back(request: web.Request, error: TokenwireError) -> web.StreamResponse:
    """Answer an EventSource that it should come again, and when; the comment says why."""
    response = web.Response(headers=_HEADERS, content_type="text/event-stream")
    least = random.uniform(1000, 1500) * (error.retry_after or 0)
    wait = max(int(least), random.randint(*RETRY_MS))
    response.text = f"retry: {wait}\n: {error.code}: {error.message}\n\n"
    return response
