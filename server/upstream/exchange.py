"""One HTTP/1.1 exchange with an upstream: a request out, an answer in, a body handed on as it comes.

A body's bytes go to whoever takes them in the very call that read them off the socket: with a queue
and a task between the two, a token would cost more than all the rest of its way.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from multidict import CIMultiDict

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamStall,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from server.upstream import Feed

HEAD_LIMIT = 256 * 1024
GOODBYE = 1.0
"""Seconds for the end of a body after its last word, so that the connection can be used again."""

LOOK = 1.0
"""Seconds between looks at the deadline."""

Take = Callable[[bytes], bool]
"""Takes a piece of a body; returns whether it wants no more."""


class Answer:
    """An answer under way: `head` resolves with it, `complete` says that the body has ended."""

    def __init__(self, wire: "Wire") -> None:
        self.head: asyncio.Future[None] = wire.loop.create_future()
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.complete = False
        self.keep = False
        self.last = 0.0
        self._wire = wire
        self._parser: Any = httptools.HttpResponseParser(self)
        self._head_size = 0
        self._pieces: list[bytes] = []
        self._take: Take | None = None
        self._feed: Feed | None = None
        self._satisfied = False
        self._failure: Exception | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def content_type(self) -> str:
        """The media type, without parameters; bytes if it has none."""
        kind = self.headers.get("Content-Type", "application/octet-stream")
        return kind.partition(";")[0].strip().lower()

    def feed(self, data: bytes) -> None:
        """Take what the socket brought."""
        if not self.head.done():
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                return self.fail(UpstreamInvalid())
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self.complete:
                return self.fail(UpstreamInvalid())
            self.keep = False
        if self.complete:
            self._wire.completed(self)
        return None

    def on_message_begin(self) -> None:
        """Refuse a second answer: nobody asked for it."""
        if self.complete:
            raise ValueError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a line of the head (or a trailer, which nobody asked for)."""
        if not self.head.done():
            self.headers.add(name.decode("latin-1"), value.decode("latin-1").strip())

    def on_headers_complete(self) -> None:
        """Take the head, unless it is only a provisional one."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers.clear()
        elif not self.head.done():
            self.head.set_result(None)

    def on_body(self, piece: bytes) -> None:
        """Hand on a piece of the body, or keep it until somebody takes it."""
        if self._take is None:
            self._pieces.append(piece)
        elif not self._satisfied:
            self.last = self._wire.loop.time()
            try:
                self._satisfied = self._take(piece)
            except Exception as error:
                self._satisfied = True
                self._stop(error)
            if self._satisfied or (self._feed is not None and self._feed.full):
                self._stop()

    def on_message_complete(self) -> None:
        """Learn that the body is whole."""
        if self.status >= 200:
            self.complete = True
            self.keep = self._parser.should_keep_alive()
            self._stop()

    def end(self) -> None:
        """Learn that the connection is closed: an end for a body without a length, else a break."""
        if self.complete:
            return
        if not self.head.done():
            self.fail(UpstreamUnreachable())
        elif "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.fail(UpstreamTruncated())
        else:
            self.complete = True
            self._stop()

    def fail(self, error: UpstreamFailed) -> None:
        """Give up: whoever waits gets the error."""
        if not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # whoever asked may have left
        self._stop(error)
        self._wire.abort()

    def _stop(self, error: Exception | None = None) -> None:
        self._failure = self._failure or error
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def pour(self, take: Take, until: Callable[[], float], feed: Feed | None = None) -> None:
        """Hand every piece of the body to `take`, until it has enough or the body ends.

        While `feed` is full the upstream is not read. Raise `UpstreamStall` when the loop's clock passes
        `until()`, `UpstreamTruncated` for a body that breaks off, and what `take` raises.
        """
        self.last = self._wire.loop.time()
        self._take, self._feed = take, feed
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            self.on_body(piece)
        while not (self.complete or self._satisfied or self._failure):
            if feed is not None and feed.full:
                await self._hold(feed)
            await self._woken(until)
        if self._failure is not None:
            raise self._failure

    async def _hold(self, feed: Feed) -> None:
        self._wire.hold(True)
        try:
            await feed.room()
        finally:
            self._wire.hold(False)
        self.last = self._wire.loop.time()

    async def _woken(self, until: Callable[[], float]) -> None:
        """Wait for the end, for a full feed, or for too long."""
        self._wake = self._wire.loop.create_future()
        while not self._wake.done():
            left = until() - self._wire.loop.time()
            if left <= 0:
                raise UpstreamStall()
            # The deadline may have come closer: silence is allowed for less long than a first token.
            await asyncio.wait((self._wake,), timeout=min(left, LOOK))

    def close(self) -> None:
        """Hang up, unless the answer was read to its end or is just about to be.

        Aborted, not closed: whoever stops reading wants the other side to stop, too, and TLS would first
        wait for its goodbye.
        """
        if self._satisfied and self._failure is None and not self.complete:
            self._wire.loop.call_later(GOODBYE, self._give_up)
        else:
            self._give_up()

    def _give_up(self) -> None:
        if not self.complete:
            self._wire.abort()


class Wire(asyncio.Protocol):
    """One connection to an upstream; `idle(wire)` is called whenever it can be used again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: Callable[["Wire"], None]) -> None:
        self.loop = loop
        self.used = False
        self.since = 0.0
        self._idle = idle
        self._transport: Any = None
        self._answer: Answer | None = None

    @property
    def open(self) -> bool:
        """Whether it can carry an exchange."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> Answer:
        """Send a request, and return its answer, of which nothing is here yet."""
        self._answer = answer = Answer(self)
        self._transport.write(request)
        return answer

    def hold(self, held: bool) -> None:
        """Stop reading, or go on."""
        if self.open:
            self._transport.pause_reading() if held else self._transport.resume_reading()

    def completed(self, answer: Answer) -> None:
        """Learn that an answer is whole."""
        self._answer = None
        if answer.keep and self.open:
            self.used = True
            self.since = self.loop.time()
            self._idle(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Break the connection off."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the answer; what nobody asked for ends the connection."""
        if self._answer is None:
            self.abort()
        else:
            self._answer.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the answer."""
        if self._answer is not None:
            self._answer.end()
