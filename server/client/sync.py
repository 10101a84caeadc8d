"""The same client for programs without an event loop: it runs one in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Self, TypeVar

from server.client.client import Client
from server.client.items import Arrival, Item
from server.client.reports import Closed
from server.client.stream import Stream
from server.events import Cursor, FinalEvent

T = TypeVar("T")


class _Loop:
    """An event loop in a thread, which waits for nothing but calls."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="tokenwire", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for its result; whoever interrupts the wait cancels the work. Raise `Closed`."""
        try:
            self._demand_another_thread()
            with self._closing:
                if self._closed:
                    raise Closed
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except CancelledError:  # by nobody but `close`
            raise Closed from None
        except BaseException:
            future.cancel()
            raise

    def close(self, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End all that is waited for, say goodbye and end the thread; once, however often called."""
        self._demand_another_thread()
        with self._closing:
            closed, self._closed = self._closed, True
        if not closed:
            try:
                asyncio.run_coroutine_threadsafe(self._end(goodbye), self._loop).result()
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _demand_another_thread(self) -> None:
        """Raise `RuntimeError` in our own: it would wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("A client cannot be used in its own `tell`: use it in another thread.")

    async def _end(self, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
        works = asyncio.all_tasks() - {asyncio.current_task()}
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        await goodbye()
        await self._loop.shutdown_asyncgens()


class SyncStream:
    """An iterator over a session's items; pause, resume and abort may come from another thread."""

    def __init__(self, loop: _Loop, stream: Stream) -> None:
        self._run = loop.run
        self._stream = stream

    @property
    def sid(self) -> str:
        """The session's id."""
        return self._stream.sid

    @property
    def after(self) -> Cursor | None:
        """The id of the last event that was given."""
        return self._stream.after

    @property
    def final(self) -> FinalEvent | None:
        """How the session ended, once its last event was read."""
        return self._stream.final

    @property
    def transport(self) -> str:
        """The transport in use: `sse` or `ws`."""
        return self._stream.transport

    @property
    def paused(self) -> bool:
        """Whether the session is paused, as far as this reader was told."""
        return self._stream.paused

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        # Through a sentinel: a StopAsyncIteration would not get through a future.
        item = self._run(_next(self._stream))
        if item is None:
            raise StopIteration
        return item

    def batch(self) -> list[Arrival]:
        """Return all that came by now, but at least one; nothing once the session has ended."""
        return self._run(self._stream.batch())

    def text(self) -> str:
        """Read to the end and return the answer's text, as `Stream.text` does."""
        return self._run(self._stream.text())

    def pause(self) -> dict[str, Any]:
        """Pause the session."""
        return self._run(self._stream.pause())

    def resume(self) -> dict[str, Any]:
        """Let the session go on."""
        return self._run(self._stream.resume())

    def abort(self) -> dict[str, Any]:
        """End the session."""
        return self._run(self._stream.abort())

    def cut(self) -> None:
        """Lose the connection, as over a bad network; the next read connects again."""
        self._run(self._stream.cut())

    def close(self) -> None:
        """Stop reading; the session itself goes on."""
        with suppress(Closed):  # the client's end was this one's, too
            self._run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


async def _next(stream: Stream) -> Item | None:
    return await anext(stream, None)


class SyncClient:
    """`Client`, with the same arguments, for programs without an event loop."""

    def __init__(self, url: str, **settings: Any) -> None:
        self._client = Client(url, **settings)
        self._loop = _Loop()

    def start(self, prompt: str | Sequence[Mapping[str, Any]], **parameters: Any) -> SyncStream:
        """Start a session and return its stream, as `Client.start` does."""
        return SyncStream(self._loop, self._loop.run(self._client.start(prompt, **parameters)))

    def connect(self, sid: str, **how: Any) -> SyncStream:
        """Return a stream of a session, as `Client.connect` does."""
        return SyncStream(self._loop, self._client.connect(sid, **how))

    def session(self, sid: str) -> dict[str, Any]:
        """Return the session object."""
        return self._loop.run(self._client.session(sid))

    def pause(self, sid: str) -> dict[str, Any]:
        """Pause a session."""
        return self._loop.run(self._client.pause(sid))

    def resume(self, sid: str) -> dict[str, Any]:
        """Resume a session."""
        return self._loop.run(self._client.resume(sid))

    def abort(self, sid: str) -> dict[str, Any]:
        """Abort a session."""
        return self._loop.run(self._client.abort(sid))

    def delete(self, sid: str) -> None:
        """Abort a session if it is live, and wipe its log."""
        self._loop.run(self._client.delete(sid))

    def close(self) -> None:
        """Close all connections and end the thread; other threads' reads and calls raise `Closed`."""
        self._loop.close(self._client.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
