"""Waiting until something is so. A bound tells a hang, never how fast something has to be."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

HANG = 60.0
"""Seconds that nothing here takes, on whatever machine."""


async def until(
    condition: Callable[[], object | Awaitable[object]], seconds: float = HANG, pause: float = 0.01
) -> float:
    """Wait until something is so; look each `pause` seconds (0: each turn). Return how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            outcome = condition()
            if await outcome if inspect.isawaitable(outcome) else outcome:
                return time.monotonic() - began
            await asyncio.sleep(pause)


def eventually(condition: Callable[[], object], seconds: float = HANG) -> None:
    """Wait until something is so, where no loop runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
