"""What happens in this process, counted in plain numbers (pure).

Counting is an addition where things happen, once a flight or a session rather than once a token.
Whoever wants to know reads the numbers when asked; nothing is ever pushed.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from server.errors import UpstreamFailed


class Histogram:
    """How many values fell into each bucket: up to each of `bounds`, and above them all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Counts:
    """All that is counted; times in seconds."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: Counter[tuple[str, str]] = Counter()
        """Sessions by final event and, unless they are done, its reason or code."""
        self.events = 0
        self.entries = 0
        self.first_token = Histogram(*_SHORT, 5.0, 10.0, 30.0, 60.0, 300.0)
        self.gap = Histogram(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0)
        self.commit = Histogram(*_SHORT)
        self.company = Histogram(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
        """How many sessions' appends and looks travel in one flight."""
        self.upstream_close = Histogram(*_SHORT)
        self.controls: Counter[str] = Counter()
        self.over: Counter[str] = Counter()
        """Writers by why they may write no more; `fenced` is one that was replaced."""
        self.heals = 0
        self.takeovers: Counter[str] = Counter()
        """Sessions whose producer was gone, by what became of them: `ended` or `inherited`."""
        self.lost_connections = 0
        self.left: Counter[str] = Counter()
        """Viewers by why their delivery ended."""
        self.errors: Counter[str] = Counter()
        """Refusals by code, over HTTP and WebSocket."""
        self.lag = Histogram(*_SHORT)
        """By how much the event loop is late."""


class Levels(NamedTuple):
    """How things stand at this moment on one node."""

    sessions: Mapping[str, int]
    viewers: Mapping[str, int]
    behind: int
    """Viewers that have not been given all they might have."""
    furthest: int
    """Events that the one who is furthest behind lacks."""
    queue_bytes: int
    """What producers hold that Redis has not acknowledged."""
    down: float
    """Seconds for which Redis has not been reached."""
    full: float
    """The part of Redis' memory that is taken; of several servers, of the fullest."""
    draining: bool


COUNTS = Counts()
"""This process's."""


def known_code(code: str) -> str:
    """Return a final event's code, or `other` for one that a program of the caller's made up."""
    kinds: tuple[type[UpstreamFailed], ...] = (UpstreamFailed, *UpstreamFailed.__subclasses__())
    ours = {kind.code for kind in kinds}
    return code if code in ours | {"producer_lost", "store_full"} else "other"
