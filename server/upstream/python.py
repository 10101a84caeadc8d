"""Anything in the embedding program as an upstream.

A source is called with the `Request` and gives (or is awaited for) an async iterable, an iterable, a
text, bytes, or a streaming response of aiohttp's or httpx's kind; or it takes a second parameter, a
`Stream`, and sends. Running out is the end; what it raises ends the session in `upstream_error`.
"""

import asyncio
import codecs
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from server.events import FINAL, Bytes, Content, Done, Event
from server.upstream import Request, Upstream

QUEUE = 256
_END = object()


class Stream:
    """What a callback sends through: `send` waits when the session is behind."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE)

    async def send(self, item: Any) -> None:
        """Send a text, bytes, an event, or anything that is JSON."""
        await self._queue.put(item)

    async def wait(self, ms: float) -> None:
        """Wait for some milliseconds."""
        await asyncio.sleep(ms / 1000)

    async def close(self) -> None:
        """End the stream; returning from the callback does the same."""
        await self._queue.put(_END)

    async def items(self) -> AsyncIterator[Any]:
        """Yield what was sent, to the end."""
        while (item := await self._queue.get()) is not _END:
            yield item


def python(source: Any) -> Upstream:
    """Return the upstream for a callable, or for something that can be iterated over once."""

    async def stream(request: Request) -> AsyncIterator[Event]:
        async with aclosing(_items(source, request)) as items:
            async for item in items:
                event = _event(item)
                yield event
                if isinstance(event, FINAL):
                    return
        yield Done()

    return stream


async def _items(source: Any, request: Request) -> AsyncGenerator[Any, None]:
    if callable(source) and _takes_stream(source):
        items = _called_back(source, request)
    else:
        given = source(request) if callable(source) else source
        if inspect.isawaitable(given):
            given = await given
        items = _iterated(given)
    async with aclosing(items) as open_items:
        async for item in open_items:
            yield item


def _takes_stream(source: Callable[..., Any]) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [
        p
        for p in inspect.signature(source).parameters.values()
        if p.kind in kinds and p.default is p.empty
    ]
    return len(needed) == 2


async def _called_back(source: Callable[..., Any], request: Request) -> AsyncGenerator[Any, None]:
    stream = Stream()

    async def call() -> None:
        try:
            await source(request, stream)
        finally:
            await stream.close()

    calling = asyncio.create_task(call())
    try:
        async for item in stream.items():
            yield item
        await calling
    finally:
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)


async def _iterated(given: Any) -> AsyncGenerator[Any, None]:
    if isinstance(given, str | bytes | dict | msgspec.Struct):
        yield given
    elif (pieces := _body_of(given)) is not None:
        async for piece in pieces:
            yield piece
    elif isinstance(given, AsyncIterable):
        iterator = aiter(given)
        try:
            async for item in iterator:
                yield item
        finally:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
    elif isinstance(given, list | tuple):
        for item in given:
            yield item
    elif isinstance(given, Iterable):
        async for item in _threaded(iter(given)):
            yield item
    else:
        raise TypeError(f"cannot stream a {type(given).__name__}")


async def _threaded(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    # Its `next` may block, which must stop nobody else.
    try:
        while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
            yield item
    finally:
        with suppress(ValueError):  # it may still be running in its thread
            getattr(iterator, "close", lambda: None)()


def _body_of(given: Any) -> AsyncIterator[Any] | None:
    """Return the pieces of a response's body, or None if it is no response."""
    content: Any = getattr(given, "content", None)
    if hasattr(content, "iter_any"):
        pieces = content.iter_any()
    elif hasattr(given, "aiter_bytes"):
        pieces = given.aiter_bytes()
    else:
        return None
    kind = str(given.headers.get("Content-Type", ""))
    textual = kind.startswith("text/") or "json" in kind
    return _closing(given, _decoded(pieces) if textual else pieces)


async def _closing(response: Any, pieces: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for piece in pieces:
            yield piece
    finally:
        closed = response.close() if hasattr(response, "close") else response.aclose()
        if inspect.isawaitable(closed):
            await closed


async def _decoded(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    async for piece in pieces:
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def _event(item: Any) -> Event:
    match item:
        case str():
            return Content(item)
        case bytes() | bytearray() | memoryview():
            return Bytes(bytes(item))
        case msgspec.Struct():
            return item  # type: ignore[return-value]
        case {"type": str()}:
            with suppress(msgspec.ValidationError):
                return msgspec.convert(item, Event)  # type: ignore[no-any-return]
    return Content(msgspec.json.encode(item).decode())
