"""How soon a child that ended by itself is started again: longer each time, unless it did well."""

LEAST, MOST = 0.1, 5.0
HEALTHY = 10.0
"""Seconds after which an end counts as the first again."""


class Restarts:
    """The ends of one child, or of those in its place."""

    def __init__(self) -> None:
        self._next = LEAST

    def wait(self, lived: float) -> float:
        """Return the seconds to wait after one that lived so long."""
        wait = LEAST if lived > HEALTHY else self._next
        self._next = min(2 * wait, MOST)
        return wait
