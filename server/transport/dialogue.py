"""One client's WebSocket from its opening to its close, whatever is spoken on it.

It is over when the client closes it, when what is spoken says so (`end`), or when this node has to
leave. Replies, notices and events all go through its one sink, in the order they are written here.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any, Self

import orjson
from aiohttp import WSMsgType, web

from server.counts import COUNTS
from server.errors import BadJson, InvalidRequest, TokenwireError
from server.session.seat import Seat
from server.session.tasks import Tasks
from server.session.viewer import Dialect, Ending, Sink, Viewer
from server.traces import trace
from server.trail import SESSION
from server.transport.context import CONTEXT
from server.transport.guard import PROTOCOL
from server.transport.guest import Guest
from server.transport.sink import RawSink, tune

log = logging.getLogger(__name__)

HEARTBEAT = 15.0
NAME = 1024
"""Bytes of JSON by which a client may call a message: they come back with every answer to it."""
UNREAD = 16
"""Messages that are answered though the client does not read: it may be slow, and want to abort."""
CLOSE = {
    Ending.FINAL: 1000,
    Ending.GONE: 4410,
    Ending.MOVING: 1012,
    Ending.SLOW: 4408,
    Ending.LOST: 1001,
}


def checked(name: str, value: Any) -> Any:
    """Return what a client calls a message in its field `name`; raise `InvalidRequest` if it is long."""
    if len(orjson.dumps(value)) > NAME:
        raise InvalidRequest(f"`{name}` may have {NAME} bytes at most.")
    return value


class Dialogue(ABC):
    """A socket, and the viewers that it is read by, each under a name.

    One message is answered at a time. `_ref` is what its client calls the one at hand.
    """

    __slots__ = (
        "_answering",
        "_context",
        "_guest",
        "_node",
        "_over",
        "_ref",
        "_sink",
        "_viewers",
        "_watches",
        "_ws",
    )

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        self._context = request.app[CONTEXT]
        self._node = self._context.node
        self._guest = Guest(request, self.end)
        self._sink = RawSink(request)
        self._viewers: dict[str, Viewer] = {}
        self._ref: Any = None
        self._ws = ws
        self._watches = Tasks()
        self._over: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._answering = asyncio.Lock()

    @classmethod
    async def open(cls, request: web.Request, size: int) -> Self:
        """Open a socket, on which a frame of the client's may have `size` bytes."""
        ws = web.WebSocketResponse(
            protocols=(PROTOCOL,), compress=False, heartbeat=HEARTBEAT, max_msg_size=size
        )
        tune(request)
        await ws.prepare(request)
        return cls(request, ws)

    @abstractmethod
    async def answer(self, text: str) -> None:
        """Do what a message asks for; what it raises, it is refused with."""

    @abstractmethod
    def refuse(self, error: TokenwireError) -> None:
        """Tell the client why the message at hand was not answered."""

    @abstractmethod
    def ended(self, name: str, viewer: Viewer, ending: Ending) -> None:
        """Learn that there is nothing more to read under a name, and why."""

    async def serve(self) -> web.WebSocketResponse:
        """Answer messages until it is over; return the socket."""
        reading = asyncio.create_task(self._read())
        self._node.leavers.add(leave := self._move)
        self._context.heart.join(self, self._beat)
        try:
            await asyncio.wait((reading, self._over), return_when=asyncio.FIRST_COMPLETED)
            async with self._answering:  # who asked for the end is still told so
                reading.cancel()
        finally:
            self._node.leavers.discard(leave)
            self._context.heart.leave(self)
            # The reader goes first: closing while it waits would skip the closing handshake.
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._watches.aclose()
            for viewer in self._viewers.values():
                viewer.leave()
            # What is over goes at once, with the logs it read, not when the collector comes by.
            self._viewers.clear()
            self._guest.gone()
        if self._over.done():
            await self._close(*self._over.result())
        return self._ws

    async def _close(self, code: int, why: str) -> None:
        try:
            await self._caught_up()
            await self._ws.close(code=code, message=why.encode())
        except TimeoutError:
            self._sink.abort()  # closing would wait for as long as it reads nothing
        except ConnectionError:
            return

    def end(self, code: int, why: str) -> None:
        """Have it closed with a code and a word; the first to say so is heard."""
        if not self._over.done():
            self._over.set_result((code, why))

    def _follow(self, name: str, seat: Seat, dialect: Dialect, sink: Sink) -> Viewer:
        """Read a session from `seat` on, in place of what had that name."""
        self._drop(name)
        viewer = self._viewers[name] = self._node.join(seat, dialect, sink)
        self._watches.spawn(self._watch(name, viewer))
        return viewer

    def _drop(self, name: str) -> Viewer | None:
        """Read no more under that name; return who did."""
        viewer = self._viewers.pop(name, None)
        if viewer is not None:
            viewer.leave()
            viewer.ended.cancel()
        return viewer

    async def _watch(self, name: str, viewer: Viewer) -> None:
        ending = await viewer.ended
        viewer.leave()
        if self._viewers.get(name) is viewer:
            del self._viewers[name]
            self.ended(name, viewer, ending)

    async def _read(self) -> None:
        unread = 0
        async for message in self._ws:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                async with self._answering:
                    await self._hear(message.data)
                unread = unread + 1 if self._sink.full else 0
                if unread > UNREAD:
                    await self._catch_up()
                if self._over.done():
                    return

    async def _catch_up(self) -> None:
        try:
            await self._caught_up()
        except TimeoutError:
            self.end(CLOSE[Ending.SLOW], Ending.SLOW)

    async def _caught_up(self) -> None:
        """Wait for a client that does not read what it is sent; raise `TimeoutError`."""
        async with asyncio.timeout(self._context.send_timeout):
            await self._sink.drain()

    async def _hear(self, data: str | bytes) -> None:
        self._ref = None
        SESSION.set("")
        try:
            self._guest.frame(len(data))
            if isinstance(data, bytes):
                self._guest.command()
                raise BadJson("Frames are text, one JSON object each.")
            await self.answer(data)
        except TokenwireError as error:
            self._refuse(error)
        except Exception as error:
            log.error("a command failed: %s", trace(error))
            self._refuse(TokenwireError())

    def _refuse(self, error: TokenwireError) -> None:
        COUNTS.errors[error.code] += 1
        self.refuse(error)

    def _move(self) -> None:
        for viewer in self._viewers.values():
            viewer.notify("moving")
        self.end(CLOSE[Ending.MOVING], Ending.MOVING)

    def _beat(self) -> None:
        if self._node.down_for() > self._context.grace:
            self._move()
