"""Keeps quiet streams alive: a sign of life for each every `period` seconds, from one task for all.

A timer and a waiting coroutine for each of ten thousand viewers would be a tenth of their memory.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

SLICE = 500
"""Signs of life given in one go."""


class _Beat(NamedTuple):
    due: float
    beat: Callable[[], None]


class Heart:
    """The streams of one node, the one that is due next first."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._beats: dict[object, _Beat] = {}
        self._task = asyncio.create_task(self._run(), name="heart")

    def join(self, viewer: object, beat: Callable[[], None]) -> None:
        """Call `beat` every period, until the viewer leaves."""
        self._beats[viewer] = _Beat(asyncio.get_running_loop().time() + self._period, beat)

    def leave(self, viewer: object) -> None:
        """Forget a viewer."""
        self._beats.pop(viewer, None)

    async def aclose(self) -> None:
        """Stop."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            pause = 0.0 if self._beat_some() else min(0.5, self._period / 4)
            await asyncio.sleep(pause)

    def _beat_some(self) -> bool:
        """Call those that are due; return whether there are more."""
        now = asyncio.get_running_loop().time()
        for _ in range(SLICE):
            viewer = next(iter(self._beats), None)
            if viewer is None or self._beats[viewer].due > now:
                return False
            beat = self._beats.pop(viewer).beat
            self._beats[viewer] = _Beat(now + self._period, beat)
            beat()
        return True
