"""A pacing wheel: many streams, one timer (pure).

A stream that is due at 12.7 ms goes on the tick 12, with all others of that millisecond, so that
a thousand streams cost one wake-up a tick and not a timer each.
"""

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
TICK_NS = 1_000_000


class Wheel(Generic[Item]):
    """Items by the tick they are due at."""

    def __init__(self) -> None:
        self.late_ns = 0
        self._slots: dict[int, list[Item]] = {}
        self._ticks: list[int] = []

    def put(self, due: float, item: Item) -> None:
        """Have `item` come up at `due`, in ticks."""
        tick = int(due)
        if tick not in self._slots:
            self._slots[tick] = []
            heapq.heappush(self._ticks, tick)
        self._slots[tick].append(item)

    def wait(self, now_ns: int) -> float:
        """Seconds until the next tick that has items; -1 if none has."""
        if not self._ticks:
            return -1.0
        return max(0.0, (self._ticks[0] * TICK_NS - now_ns) / 1e9)

    def due(self, now_ns: int) -> Iterator[Item]:
        """Take out all items of the ticks up to `now_ns`, and note how late the latest is."""
        while self._ticks and self._ticks[0] * TICK_NS <= now_ns:
            tick = heapq.heappop(self._ticks)
            self.late_ns = max(self.late_ns, now_ns - tick * TICK_NS)
            yield from self._slots.pop(tick)
