"""How soon a child that ended by itself is started again: longer each time, unless it did well."""

LEAST, MOST = 0.1, 5.0
HEALTHY = 10.0
"""Seconds of life after which an end is none of a row."""


class Restarts:
    """The ends of one child, or of those in its place."""

    def __init__(self) -> None:
        self._wait = LEAST

    def wait(self, lived: float) -> float:
        """Return the seconds to wait after one that lived so long."""
        self._wait = LEAST if lived > HEALTHY else min(2 * self._wait, MOST)
        return self._wait
