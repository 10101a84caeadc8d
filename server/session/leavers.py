"""The connections that deliver, each with a call that tells its client to go elsewhere."""

import asyncio
import random
from collections.abc import Callable


class Leavers:
    """Calls to be made when this node drains; who joins after that is told at once."""

    __slots__ = ("_calls", "_told")

    def __init__(self) -> None:
        self._calls: set[Callable[[], None]] = set()
        self._told = False

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, leave: Callable[[], None]) -> None:
        """Have `leave` called when the time comes."""
        self._calls.add(leave)
        if self._told:
            asyncio.get_running_loop().call_soon(leave)

    def discard(self, leave: Callable[[], None]) -> None:
        """Call it no more."""
        self._calls.discard(leave)

    def tell(self, spread: float) -> None:
        """Call all within `spread` seconds, each at its own time, lest they knock elsewhere together."""
        self._told, loop = True, asyncio.get_running_loop()
        for leave in list(self._calls):
            loop.call_later(random.uniform(0.0, spread), leave)
