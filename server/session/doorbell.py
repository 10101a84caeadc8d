"""Pub/sub as a doorbell: "session X changed", never what changed.

One connection to each server that rings. A ring that gets lost costs latency, never an event: whoever
listens reads again after every (re)subscription, and looks by a timer besides.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MovedError, RedisError

from server.session.connections import Address, Connections
from server.session.pipeline import BACKOFF

log = logging.getLogger(__name__)

QUIET = 5.0
"""Seconds without a byte after which the connection is asked for a sign of life, then given up."""

AGAIN = 0.1
"""Seconds until a channel that the server dropped is asked for again."""


class Places(Protocol):
    """Where channels ring: a server each, `None` where there is only one or none is known."""

    word: str
    changed: list[Callable[[], None]]

    def of(self, channel: str) -> Address | None:
        """Return the server of a channel."""

    def connections(self, address: Address | None) -> Connections:
        """Return what connects to it."""

    def moved(self, slot: int, to: Address) -> None:
        """Learn from a refusal where a channel is."""

    def doubt(self) -> None:
        """Learn that one is not where it was."""


class Doorbell:
    """Subscriptions by channel; `ring(channel)` is called for every message and (re)subscription."""

    def __init__(self, places: Places, ring: Callable[[str], None]) -> None:
        self._places = places
        self._ring = ring
        self._wanted: dict[str, asyncio.Future[None]] = {}
        self._at: dict[str, _Bell] = {}
        self._bells: dict[Address | None, _Bell] = {}
        places.changed.append(self._rearrange)

    def subscribe(self, *channels: str) -> None:
        """Ask for rings; the first comes when Redis has confirmed the channel."""
        loop = asyncio.get_running_loop()
        for channel in channels:
            if channel not in self._wanted:
                self._wanted[channel] = loop.create_future()
                self._hang(channel)

    async def listen(self, *channels: str) -> None:
        """Subscribe, and return once Redis has confirmed each channel."""
        self.subscribe(*channels)
        await asyncio.gather(*(asyncio.shield(self._wanted[c]) for c in channels))

    def leave(self, *channels: str) -> None:
        """Unsubscribe."""
        for channel in channels:
            heard = self._wanted.pop(channel, None)
            if heard is not None:
                heard.cancel()
                self._at.pop(channel).drop(channel)

    async def aclose(self) -> None:
        """Hang up."""
        await asyncio.gather(*(bell.aclose() for bell in self._bells.values()))
        for heard in self._wanted.values():
            heard.cancel()

    def _hang(self, channel: str) -> None:
        address = self._places.of(channel)
        if address not in self._bells:
            self._bells[address] = _Bell(address, self._places, self._heard)
        bell = self._at[channel] = self._bells[address]
        bell.add(channel)

    def _heard(self, channel: str) -> None:
        heard = self._wanted.get(channel)
        if heard is not None:
            if not heard.done():
                heard.set_result(None)
            self._ring(channel)

    def _rearrange(self) -> None:
        for channel, bell in list(self._at.items()):
            if self._places.of(channel) != bell.address:
                bell.drop(channel)
                self._hang(channel)


class _Bell:
    """The channels of one server, on one connection."""

    def __init__(self, address: Address | None, places: Places, heard: Callable[[str], None]) -> None:
        self.address = address
        self._places = places
        self._word = places.word.lower().encode()
        self._connections = places.connections(address)
        self._heard = heard
        self._channels: set[str] = set()
        self._asks: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        # It outlives the request that happens to hang it up first.
        self._task = asyncio.create_task(self._run(), name="redis-doorbell", context=Context())

    def add(self, channel: str) -> None:
        self._channels.add(channel)
        self._asks.put_nowait(("SUBSCRIBE", channel))

    def drop(self, channel: str) -> None:
        self._channels.discard(channel)
        self._asks.put_nowait(("UNSUBSCRIBE", channel))

    async def aclose(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        failures = 0
        while True:
            connection = self._connections.make()
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
                await self._connections.ready(connection)
                failures = 0
                await self._serve(connection)
            except (RedisError, OSError, TimeoutError) as error:
                log.info("doorbell: %s", type(error).__name__)
                self._places.doubt()
            finally:
                await connection.disconnect(nowait=True)
            await asyncio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
            failures += 1

    async def _serve(self, connection: AbstractConnection) -> None:
        while not self._asks.empty():
            self._asks.get_nowait()
        for channel in list(self._channels):
            await self._say(connection, "SUBSCRIBE", channel)
        asking = asyncio.create_task(self._ask(connection))
        try:
            await self._hear(connection)
        finally:
            asking.cancel()
            with suppress(asyncio.CancelledError, RedisError, OSError):
                await asking

    async def _ask(self, connection: AbstractConnection) -> None:
        while True:
            try:
                # Not wait_for: on Python 3.11 it may swallow a cancellation.
                async with asyncio.timeout(QUIET):
                    verb, channel = await self._asks.get()
                if (verb == "SUBSCRIBE") == (channel in self._channels):
                    await self._say(connection, verb, channel)
            except TimeoutError:
                await connection.send_command("PING", check_health=False)

    async def _say(self, connection: AbstractConnection, verb: str, channel: str) -> None:
        await connection.send_command(self._places.word + verb, channel, check_health=False)

    async def _hear(self, connection: AbstractConnection) -> None:
        confirmed, message, dropped = (
            self._word + word for word in (b"subscribe", b"message", b"unsubscribe")
        )
        while True:
            try:
                async with asyncio.timeout(2 * QUIET):
                    said = await connection.read_response(disable_decoding=True)
            except MovedError as error:
                assert self.address is not None
                self._places.moved(error.slot_id, Address(error.host or self.address.host, error.port))
                continue
            if not isinstance(said, list) or said[0] not in (confirmed, message, dropped):
                continue
            channel = said[1].decode()
            if channel not in self._channels:
                continue
            if said[0] == dropped:
                self._dropped(channel)
            else:
                self._heard(channel)

    def _dropped(self, channel: str) -> None:
        """Ask again for what the server dropped by itself: then it says who serves the slot."""
        self._places.doubt()
        asyncio.get_running_loop().call_later(AGAIN, self._asks.put_nowait, ("SUBSCRIBE", channel))
