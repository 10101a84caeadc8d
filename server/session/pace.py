"""How long a flight to Redis waits for company: not at all on an idle node, a little on a busy one.

A flight costs much the same whether it carries one session's token or a hundred's, and so does each
write to a client. So the busier the event loop, the longer the next flight waits, up to `LONGEST`:
overload turns into bigger flights and bigger writes instead of a queue that grows.
"""

import time
from collections.abc import Callable

from server.counts import COUNTS

LONGEST = 0.03
"""Seconds: one or two tokens of a fast stream, and nothing that a reader would see."""
BUSY = 0.4
"""The load from which on flights wait that long."""
MEMORY = 0.1
"""Seconds over which the load is averaged."""


class Pace:
    """The rhythm of one pipeline, from the CPU time that its thread uses."""

    def __init__(
        self, wall: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.thread_time
    ) -> None:
        self.load = 0.0
        self._wall = wall
        self._cpu = cpu
        self._left, self._used = wall(), cpu()

    def wait(self) -> float:
        """Return the seconds that the next flight should still wait."""
        return max(0.0, self._left + LONGEST * min(1.0, self.load / BUSY) - self._wall())

    def leave(self) -> None:
        """Note that a flight leaves."""
        now, used = self._wall(), self._cpu()
        took = max(now - self._left, 1e-9)
        load = min(1.0, (used - self._used) / took)
        self.load += (load - self.load) * took / (took + MEMORY)
        self._left, self._used = now, used

    def land(self, jobs: int) -> None:
        """Note that it is back."""
        COUNTS.commit.add(self._wall() - self._left)
        COUNTS.company.add(jobs)
