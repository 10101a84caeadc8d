"""Anything in the embedding program as an upstream.

A source is called with the `Request` and gives (or is awaited for) an async iterable, an iterable, a
text, bytes, or a streaming response of aiohttp's or httpx's kind; or it takes a second parameter, a
`Stream`, and sends. Running out is the end; what it raises ends the session in `upstream_error`.
"""

import asyncio
import inspect
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from server.errors import UpstreamFailed
from server.events import FINAL, Bytes, Content, Done, Event
from server.traces import trace
from server.upstream import Request, Source
from server.upstream.bodies import body_of
from server.upstream.callback import called_back
from server.upstream.threads import threaded

log = logging.getLogger(__name__)

_BURST = 256
_ONE_ITEM = (str, bytes, bytearray, memoryview, Mapping, msgspec.Struct)


def python(source: Any) -> Source:
    """Return the source for a callable, or for something that can be iterated over.

    Items are texts, bytes, events, dicts of an event's shape; anything else is sent as its JSON.
    A blocking iterable is drawn in a thread; a blocking callable is not: let it return an iterable.
    """

    async def stream(request: Request) -> AsyncIterator[Event]:
        try:
            async with aclosing(await _items(source, request)) as items:
                async for item in items:
                    event = _event(item)
                    yield event
                    if isinstance(event, FINAL):
                        return
            yield Done()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, UpstreamFailed) or _cancelled(error):
                raise
            log.error("a source raised: %s", trace(error))
            raise UpstreamFailed() from None

    return stream


def _cancelled(error: BaseException) -> bool:
    # A source may also let its own inner cancellation out, which is a failure like any other.
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and bool(task and task.cancelling())


async def _items(source: Any, request: Request) -> AsyncGenerator[Any, None]:
    if callable(source):
        if _takes_stream(source):
            return called_back(source, request)
        source = source(request)
    if inspect.isawaitable(source):
        source = await source
    body = body_of(source)
    return _iterated(source) if body is None else body


def _takes_stream(source: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(source)
        signature.bind(None, None)
    except (TypeError, ValueError):
        return False
    with suppress(TypeError):
        signature.bind(None)
        return False
    return True


def _iterated(given: Any) -> AsyncGenerator[Any, None]:
    if isinstance(given, AsyncGenerator):
        return given
    if isinstance(given, AsyncIterable):
        return _drawn(given)
    if isinstance(given, list | tuple):
        return _listed(given)
    if isinstance(given, _ONE_ITEM) or not isinstance(given, Iterable):
        return _listed([] if given is None else [given])
    return threaded(given)


async def _drawn(given: AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    iterator = aiter(given)
    try:
        async for item in iterator:
            yield item
    finally:
        if hasattr(iterator, "aclose"):
            await iterator.aclose()


async def _listed(items: Sequence[Any]) -> AsyncGenerator[Any, None]:
    for place, item in enumerate(items, 1):
        yield item
        if place % _BURST == 0:
            await asyncio.sleep(0)


def _event(item: Any) -> Event:
    if isinstance(item, str):
        return Content(item)
    if isinstance(item, Event):
        return item
    if isinstance(item, bytes | bytearray | memoryview):
        return Bytes(bytes(item))
    if isinstance(item, dict) and "type" in item:
        with suppress(msgspec.ValidationError):
            return msgspec.convert(item, Event)  # type: ignore[no-any-return]
    return Content(msgspec.json.encode(item).decode())
