"""How full Redis is: what runs shall find room to its end, so nothing new begins in the last of it."""

import asyncio
from contextlib import suppress

from server.errors import COME_BACK, RateLimited, StoreUnavailable
from server.session.jobs import Carrier, checked

PERIOD = 2.0
"""Seconds between two looks."""
FULL = 0.9
_LOOK = ("INFO", "memory")


def taken(info: bytes) -> float:
    """Return the part of its `maxmemory` that a server has taken; 0 without one."""
    lines = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    most = int(lines.get(b"maxmemory", 0))
    # What replicas and the file have yet to get does not count towards the limit.
    used = int(lines.get(b"used_memory", 0)) - int(lines.get(b"mem_not_counted_for_evict", 0))
    return used / most if most else 0.0


class Memory:
    """How full the fullest of the masters is that answered last."""

    def __init__(self, redis: Carrier) -> None:
        self.taken = 0.0
        self._redis = redis

    async def watch(self) -> None:
        """Look at it, again and again."""
        while True:
            with suppress(StoreUnavailable):
                await self.look()
            await asyncio.sleep(PERIOD)

    async def look(self) -> None:
        """Ask every master; raise `StoreUnavailable` if none answers."""
        self.taken = max(map(taken, checked(await self._redis.call_all(_LOOK))))

    def demand_room(self) -> None:
        """Raise `RateLimited` if there is no room for anything new."""
        if self.taken >= FULL:
            raise RateLimited("The store is nearly full.", retry_after=COME_BACK)
