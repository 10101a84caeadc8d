"""A blocking iterable, drawn in a thread of its own: its `next` may take as long as it likes."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from contextvars import copy_context
from typing import Any

log = logging.getLogger(__name__)

ROOM = 64
GRACE = 0.25
_END = object()


class _Drawing:
    """The two ends of one thread: `draw` runs in it, the rest belongs to the loop."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterable = iterable
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(ROOM)
        self._stopped = False
        self._error: Exception | None = None
        self._ended = asyncio.Event()
        self.items: asyncio.Queue[Any] = asyncio.Queue()

    def draw(self) -> None:
        """Hand over item by item, then the end; close the iterator where it ran."""
        try:
            self._hand_over_all()
        except Exception as error:
            self._error = error
        with suppress(RuntimeError):  # the loop may be gone
            self._loop.call_soon_threadsafe(self._end)

    def _hand_over_all(self) -> None:
        iterator = iter(self._iterable)
        try:
            for item in iterator:
                self._room.acquire()
                if self._stopped:
                    return
                self._loop.call_soon_threadsafe(self.items.put_nowait, item)
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    def _end(self) -> None:
        self._ended.set()
        self.items.put_nowait(_END)

    async def next(self) -> Any:
        """Return the next item or `_END`; raise what the iterable raised."""
        item = await self.items.get()
        self._room.release()
        if item is _END and self._error is not None:
            raise self._error
        return item

    async def stop(self) -> None:
        """Ask the thread to end and wait a moment for it: a blocked `next` cannot be interrupted."""
        self._stopped = True
        self._room.release()
        try:
            async with asyncio.timeout(GRACE):
                await self._ended.wait()
        except TimeoutError:
            log.warning("a source is still blocking in its thread")


async def threaded(iterable: Iterable[Any]) -> AsyncGenerator[Any, None]:
    """Yield the iterable's items; at most `ROOM` are drawn ahead."""
    drawing = _Drawing(iterable)
    # A daemon, and not of the loop's pool: neither the process nor other sources wait for it.
    threading.Thread(target=copy_context().run, args=(drawing.draw,), daemon=True).start()
    try:
        while (item := await drawing.next()) is not _END:
            yield item
    finally:
        await drawing.stop()
