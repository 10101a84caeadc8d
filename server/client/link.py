"""A stream's connections: one at a time, the next one when it is lost, over either transport."""

import asyncio

from server.client.answers import is_passing
from server.client.backoff import Backoff
from server.client.caller import LOST, Caller
from server.client.items import Frame
from server.client.reading import Reading
from server.client.reports import Hangup, Lost, Opened, Unreachable
from server.client.sse import Sse
from server.client.ws import Ws
from server.errors import TokenwireError

WIRES: dict[str, type[Sse] | type[Ws]] = {"sse": Sse, "ws": Ws}
OTHER = {"sse": "ws", "ws": "sse"}
AUTO = "ws"
"""What `auto` tries first: where it cannot work, that shows at once."""


class Link:
    """Frames of one session from wherever `reading` stands.

    With `auto`, a connection on which nothing came makes place for one over the other transport.
    """

    def __init__(self, caller: Caller, transport: str, reading: Reading, merged: bool) -> None:
        if transport not in ("auto", *WIRES):
            raise ValueError(f"transport is one of auto, sse, ws, not {transport!r}")
        self.transport = AUTO if transport == "auto" else transport
        self._auto = transport == "auto"
        self._caller = caller
        self._url = caller.session(reading.sid)
        self._reading = reading
        self._merged = merged
        self._wire: Sse | Ws | None = None
        self._backoff = Backoff()
        self._heard = self._closed = False
        self._deaf_since: float | None = None

    async def frames(self) -> list[Frame] | None:
        """Wait for more, or until it is time to try again; return None if nothing is left to come."""
        least: float | None = None
        try:
            async with asyncio.timeout(self._caller.silence):
                if self._wire is None and not await self._open():
                    return None
                assert self._wire is not None
                return self._hear(await self._wire.read())
        except (TokenwireError, Hangup) as error:
            if isinstance(error, Hangup) and error.clean and self._reading.at_end:
                return None
            # A proxy that knows no sockets may answer anything: the other transport's word counts.
            elsewhere = self._auto and self.transport == "ws"
            if not (is_passing(error) or elsewhere):
                raise
            why, least = str(error), error.retry_after
        except LOST as error:
            why = f"{type(error).__name__}: {error}".rstrip(": ")
        if not self._closed:
            await self.lost(why, least)
        return []

    async def _open(self) -> bool:
        async with self._caller.within(None):
            wire = await WIRES[self.transport].open(
                self._caller.http, self._url, self._reading.cursor, self._merged
            )
        if wire is None or self._closed:
            if wire is not None:
                await wire.aclose()
            return False
        self._wire = wire
        self._caller.wires.add(wire)
        self._caller.tell(Opened(self._reading.sid, self.transport))
        return True

    def _hear(self, frames: list[Frame]) -> list[Frame]:
        if frames:
            self._heard, self._deaf_since = True, None
            if not frames[-1].kind:
                self._backoff.reset()
        return frames

    async def lost(self, why: str, least: float | None = None) -> None:
        """Hang up, and wait for as long as the next try may have to; raise `Unreachable` or `Closed`."""
        await self.cut()
        heard, self._heard = self._heard, False
        now = asyncio.get_running_loop().time()
        self._deaf_since = now if self._deaf_since is None else self._deaf_since
        at_once = self._auto and not heard and not self._backoff.tries
        wait = self._backoff.next(least)
        if self._auto and not heard:
            self.transport = OTHER[self.transport]
        if at_once:
            wait = 0.0
        if now + wait - self._deaf_since > self._caller.patience:
            self._deaf_since = None
            raise Unreachable(f"{self._url}: {why}")
        await self._caller.rest(Lost(self._reading.sid, why, wait))

    async def cut(self) -> None:
        """Hang up; `frames` connects again."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.aclose()

    async def aclose(self) -> None:
        """Hang up for good."""
        self._closed = True
        await self.cut()
