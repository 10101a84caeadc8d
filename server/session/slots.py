"""Which master of a Redis Cluster serves a key: learned from the cluster, corrected by its answers."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from server.errors import StoreUnavailable
from server.session.connections import Address, Connections, ask

log = logging.getLogger(__name__)

TIMEOUT = 1.0
PAUSE = 0.1
"""Seconds between two questions while there is doubt."""


class Slots:
    """The map of a cluster. `changed` holds what is called when a slot has got another master."""

    def __init__(self, seeds: Iterable[Address], at: Callable[[Address], Connections]) -> None:
        self.at = at
        self.changed: list[Callable[[], None]] = []
        self._known = set(seeds)
        self._owners: dict[int, Address] = {}
        self._doubt = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def masters(self) -> set[Address]:
        """Every server that serves a slot."""
        return set(self._owners.values())

    def owner(self, key: str) -> Address | None:
        """Return the server that serves a key, as far as is known."""
        return self._owners.get(key_slot(key.encode()))

    async def open(self) -> None:
        """Learn the map; raise `StoreUnavailable` if no server of the cluster tells."""
        if not await self._refresh():
            raise StoreUnavailable("Redis cannot be reached: no server of the cluster answers.")
        self._task = asyncio.create_task(self._run(), name="redis-slots")

    async def aclose(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def moved(self, slot: int, to: Address) -> None:
        """Take a server's word that another one serves a slot."""
        if self._owners.get(slot) != to:
            self._owners[slot] = to
            self._tell()
        self.doubt()

    def doubt(self) -> None:
        """Have the map looked at again, soon."""
        self._doubt.set()

    def _tell(self) -> None:
        for changed in self.changed:
            changed()

    async def _run(self) -> None:
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            if not await self._refresh():
                self._doubt.set()
            await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))

    async def _refresh(self) -> bool:
        """Ask one server after the other; return whether one told."""
        for address in random.sample(sorted(self._known), len(self._known)):
            connection = self.at(address).make()
            try:
                async with asyncio.timeout(TIMEOUT):
                    await connection.connect()  # type: ignore[no-untyped-call]
                    rows = await ask(connection, "CLUSTER", "SLOTS")
            except (RedisError, OSError, TimeoutError) as error:
                log.info("a server of the cluster does not tell: %s", type(error).__name__)
                continue
            finally:
                await connection.disconnect(nowait=True)
            if rows:
                self._learn(rows, address.host)
                return True
        return False

    def _learn(self, rows: Sequence[Any], host: str) -> None:
        owners: dict[int, Address] = {}
        for first, last, *servers in rows:
            # A server that does not know its own name leaves it out.
            known = [Address((name or b"").decode() or host, port) for name, port, *_ in servers]
            self._known.update(known)
            owners |= dict.fromkeys(range(first, last + 1), known[0])
        if owners != self._owners:
            self._owners = owners
            self._tell()
