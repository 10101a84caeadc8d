"""One session, read over connection after connection: every event once and in order.

Nothing is read that nobody asked for: a reader that rests leaves the bytes to TCP. A read that is
cancelled loses nothing.
"""

from collections import deque
from typing import Any, Self

from server.client.caller import Caller
from server.client.items import Arrival, Item, Reset
from server.client.link import Link
from server.client.reading import Reading
from server.client.reports import BrokenStream, Closed, Unfinished
from server.events import Content, Cursor, Done, FinalEvent

OBSTINATE = 3
"""Refusals at one place after which a stream is broken."""


class Stream:
    """An async iterator over a session's items; `after` is the id of the last event it gave.

    Iterating raises the server's refusal (a `TokenwireError`), `Unreachable` after too long without a
    word, `BrokenStream` if the server insists on a gap or a repetition, or `Closed` once the client is.
    """

    def __init__(
        self, caller: Caller, sid: str, after: Cursor | None, transport: str, merged: bool
    ) -> None:
        self.sid = sid
        self.after = after
        self._caller = caller
        self._reading = Reading(sid, after, merged)
        self._link = Link(caller, transport, self._reading, merged)
        self._ready: deque[Arrival] = deque()
        self._refused_at: Cursor | None = None
        self._refusals = 0
        self._over = self._left = False

    @property
    def transport(self) -> str:
        """The transport in use: `sse` or `ws`."""
        return self._link.transport

    @property
    def final(self) -> FinalEvent | None:
        """How the session ended, once its last event was read."""
        return self._reading.final

    @property
    def paused(self) -> bool:
        """Whether the session is paused, as far as this reader was told."""
        return self._reading.paused

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        if not self._ready:
            self._ready.extend(await self._next())
        if not self._ready:
            raise StopAsyncIteration
        arrival = self._ready.popleft()
        self._given(arrival)
        return arrival.item

    async def batch(self) -> list[Arrival]:
        """Return all that came by now, but at least one; nothing once the session has ended."""
        arrivals = list(self._ready) or await self._next()
        self._ready.clear()
        for arrival in arrivals:
            self._given(arrival)
        return arrivals

    async def text(self) -> str:
        """Read to the end and return the answer's text.

        Raise `Unfinished` unless it is `done`, and `Closed` if the stream is closed before.
        """
        pieces: list[str] = []
        async for item in self:
            if isinstance(item, Content):
                pieces.append(item.content)
            elif isinstance(item, Reset):
                pieces.clear()
        if self.final is not None and not isinstance(self.final, Done):
            raise Unfinished("".join(pieces), self.final)
        if self.final is None and self._left:
            raise Closed
        return "".join(pieces)

    async def pause(self) -> dict[str, Any]:
        """Pause the session for everyone who reads it; its model goes on behind the gate."""
        return await self._caller.control(self.sid, "pause")

    async def resume(self) -> dict[str, Any]:
        """Let the session go on."""
        return await self._caller.control(self.sid, "resume")

    async def abort(self) -> dict[str, Any]:
        """End the session; the answer says whether the model server's connection is closed."""
        return await self._caller.control(self.sid, "abort")

    async def cut(self) -> None:
        """Lose the connection, as over a bad network; the next read connects again."""
        await self._link.cut()

    async def aclose(self) -> None:
        """Stop reading; the session itself goes on."""
        self._left = True
        self._ready.clear()
        await self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()

    def _given(self, arrival: Arrival) -> None:
        if arrival.id is not None:
            self.after = arrival.id
        elif isinstance(arrival.item, Reset):
            self.after = None

    async def _next(self) -> list[Arrival]:
        while not self._over and self.final is None:
            if self._reading.refused is not None:
                await self._refuse()
            frames = await self._link.frames()
            if frames is None:
                break
            if arrivals := self._reading.take(frames):
                return arrivals
        await self._end()
        return []

    async def _end(self) -> None:
        self._over = True
        await self._link.aclose()

    async def _refuse(self) -> None:
        """Report it, and read again from what is known to be right."""
        refused, self._reading.refused = self._reading.refused, None
        assert refused is not None
        self._caller.tell(refused)
        again = self._refusals and refused.after == self._refused_at
        self._refused_at, self._refusals = refused.after, self._refusals + 1 if again else 1
        if self._refusals >= OBSTINATE:
            await self._end()
            raise BrokenStream(refused)
        await self._link.lost(refused.what)
