"""One-way delivery: a session as server-sent events, as NDJSON, or as plain text."""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp_sse import EventSourceResponse

from server.errors import BadCursor, InvalidRequest, TokenwireError
from server.events import Cursor
from server.session.seat import Seat
from server.session.viewer import RETRY_MS, Dialect, Ending, Viewer
from server.transport import bodies
from server.transport.sink import ChunkSink, RawSink, tune
from server.transport.watching import SILENT, SSE_SIGNS, Signs, Watching
from server.wire import native
from server.wire.raw import Raw
from server.wire.text import Text

_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


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
    signs: Signs = SILENT
    end: bytes = b""
    bare: bool = False


SSE = Form(native.Sse, "text/event-stream", SSE_SIGNS, native.DONE)
ONE_SHOT = replace(SSE, dialect=partial(native.Sse, qualified=True))
_PING = b'{"type":"ping"}\n'
NDJSON = Form(native.Ndjson, "application/x-ndjson", Signs(_PING, _PING))
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


def form_from(request: web.Request, after: Cursor | None) -> Form:
    """Return the form in which to read on behind `after`, by default SSE; raise `BadCursor`."""
    form = form_of(request) or SSE
    if form.bare and after is not None:
        raise BadCursor("A plain text body has no event ids, so it cannot be resumed.")
    return form


async def deliver(
    request: web.Request, seat: Seat, form: Form, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    """Stream a session from `seat` on until its end, or until the client leaves; 204 if that is here."""
    if seat.at_end:
        return web.Response(status=204)
    merged = bodies.merged_in(request.query)
    response, sink = await opened(request, {"Content-Type": form.content_type} | (headers or {}))
    with Watching(request, seat, form.dialect(merged), sink, form.signs, **_facts(seat, form)) as viewer:
        ending = await viewer.ended
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


def _facts(seat: Seat, form: Form) -> dict[str, Any]:
    """Return what the `session` notice says besides: when to come back and, at the start, from where."""
    retry = {"retry": random.randint(*RETRY_MS)}
    # Who drops before the first event must not start a second generation.
    return retry | ({"cursor": f"{seat.tail.sid}.{seat.cursor}"} if form is ONE_SHOT else {})


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
    streams = path.endswith("/v1/stream") or ("/v1/" in path and path.endswith("/events"))
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
