"""How soon a child that ended by itself is started again: later each time, unless it did well."""

MOST = 5.0
HEALTHY = 10.0
"""Seconds of life after which an end counts as the first again."""


class Restarts:
    """The ends of one child, or of those in its place; the first is waited for `least` seconds."""

    def __init__(self, least: float) -> None:
        self._least = self._next = least

    def wait(self, lived: float) -> float:
        """Return the seconds to wait after one that lived so long."""
        wait = self._least if lived > HEALTHY else self._next
        self._next = min(2 * wait, MOST)
        return wait
