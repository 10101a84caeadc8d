"""A callback's side of a stream: what it sends is what the session gets."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from server.upstream import Request

ROOM = 64
_END = object()


class Stream:
    """What a callback sends through; `send` waits when the session is `ROOM` items behind."""

    def __init__(self) -> None:
        # The room is counted apart, so that the end always fits in.
        self._room = asyncio.Semaphore(ROOM)
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._closed = False

    async def send(self, item: Any) -> None:
        """Send a text, bytes, an event, or anything that is JSON; raise `RuntimeError` once closed."""
        await self._room.acquire()
        if self._closed:
            raise RuntimeError("the stream is closed")
        self._items.put_nowait(item)

    async def wait(self, ms: float) -> None:
        """Wait for some milliseconds."""
        await asyncio.sleep(ms / 1000)

    async def close(self) -> None:
        """End the stream, as returning does; what the callback does after that is cancelled."""
        self._end()

    def _end(self, *_: object) -> None:
        self._closed = True
        self._items.put_nowait(_END)

    async def _sent(self) -> AsyncGenerator[Any, None]:
        while (item := await self._items.get()) is not _END:
            self._room.release()
            yield item


async def called_back(
    callback: Callable[[Request, Stream], Awaitable[None]], request: Request
) -> AsyncGenerator[Any, None]:
    """Run the callback in a task of its own and yield what it sends; raise what it raises."""
    stream = Stream()

    async def call() -> None:
        await callback(request, stream)

    calling = asyncio.create_task(call())
    calling.add_done_callback(stream._end)
    try:
        async for item in stream._sent():
            yield item
        if calling.done():
            calling.result()
    finally:
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
