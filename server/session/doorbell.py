"""Pub/sub as a doorbell: "session X changed", never what changed.

One connection a node. A ring that gets lost costs latency, never an event: whoever listens reads
again after every (re)subscription, and looks by a timer besides.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from server.session.pipeline import BACKOFF

log = logging.getLogger(__name__)

QUIET = 5.0
"""Seconds without a byte after which the connection is asked for a sign of life, then given up."""


class Doorbell:
    """Subscriptions by channel; `ring(channel)` is called for every message and (re)subscription."""

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        connected: Callable[[AbstractConnection], Awaitable[None]],
        ring: Callable[[str], None],
    ) -> None:
        self._connect = connect
        self._connected = connected
        self._ring = ring
        self._wanted: dict[str, asyncio.Future[None]] = {}
        self._asks: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(), name="redis-doorbell")

    async def listen(self, *channels: str) -> None:
        """Subscribe, and return once Redis has confirmed each channel."""
        loop = asyncio.get_running_loop()
        for channel in channels:
            if channel not in self._wanted:
                self._wanted[channel] = loop.create_future()
                self._asks.put_nowait(("SUBSCRIBE", channel))
        await asyncio.gather(*(asyncio.shield(self._wanted[c]) for c in channels))

    def leave(self, *channels: str) -> None:
        """Unsubscribe."""
        for channel in channels:
            heard = self._wanted.pop(channel, None)
            if heard is not None:
                heard.cancel()
                self._asks.put_nowait(("UNSUBSCRIBE", channel))

    async def aclose(self) -> None:
        """Hang up."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        for heard in self._wanted.values():
            heard.cancel()

    async def _run(self) -> None:
        failures = 0
        while True:
            connection = self._connect()
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
                await self._connected(connection)
                failures = 0
                await self._serve(connection)
            except (RedisError, OSError, TimeoutError) as error:
                log.info("doorbell: %s", type(error).__name__)
            finally:
                await connection.disconnect(nowait=True)
            await asyncio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
            failures += 1

    async def _serve(self, connection: AbstractConnection) -> None:
        while not self._asks.empty():
            self._asks.get_nowait()
        for channel in list(self._wanted):
            await connection.send_command("SUBSCRIBE", channel, check_health=False)
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
                await connection.send_command(verb, channel, check_health=False)
            except TimeoutError:
                await connection.send_command("PING", check_health=False)

    async def _hear(self, connection: AbstractConnection) -> None:
        while True:
            async with asyncio.timeout(2 * QUIET):
                message = await connection.read_response(disable_decoding=True)
            if not isinstance(message, list) or message[0] not in (b"message", b"subscribe"):
                continue
            channel = message[1].decode()
            heard = self._wanted.get(channel)
            if heard is not None:
                if not heard.done():
                    heard.set_result(None)
                self._ring(channel)
