"""One second of a node in numbers, from what is counted anyway; of several nodes together (pure)."""

from collections.abc import Sequence
from typing import Any

import msgspec

from server.counts import COUNTS, Counts

QUANTILES = {"first_token": (50, 95), "commit": (50, 99), "lag": (50, 99)}
"""What is told of each spread, in percent: from a start to the first token, Redis, the event loop."""


class Second(msgspec.Struct, frozen=True, array_like=True):
    """About a second of one node: events a second, what is here, values by bucket (`server.counts`)."""

    tokens: float
    running: int
    viewers: int
    first_token: tuple[int, ...] = ()
    commit: tuple[int, ...] = ()
    lag: tuple[int, ...] = ()


class Meter:
    """Reads the counts now and then, and says what came since it did so before."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._events = counts.events
        self._spreads = {name: self._buckets(name) for name in QUANTILES}

    def read(self, elapsed: float, running: int, viewers: int) -> Second:
        """Return the `elapsed` seconds since the last reading."""
        tokens = (self._counts.events - self._events) / elapsed
        self._events = self._counts.events
        return Second(round(tokens, 1), running, viewers, *map(self._since, QUANTILES))

    def _since(self, name: str) -> tuple[int, ...]:
        before, now = self._spreads[name], self._buckets(name)
        self._spreads[name] = now
        return tuple(n - m for n, m in zip(now, before, strict=True)) if now != before else ()

    def _buckets(self, name: str) -> tuple[int, ...]:
        return tuple(getattr(self._counts, name).counts)


def together(seconds: Sequence[Second]) -> dict[str, Any]:
    """Return one second of several nodes: sums, and quantiles in milliseconds (None: of no value)."""
    told: dict[str, Any] = {
        "tokens": round(sum(second.tokens for second in seconds), 1),
        "running": sum(second.running for second in seconds),
        "viewers": sum(second.viewers for second in seconds),
    }
    for name, percents in QUANTILES.items():
        bounds = getattr(COUNTS, name).bounds
        # A node of another version may have other buckets; what there is not, nothing fell into.
        buckets = [getattr(second, name) for second in seconds]
        sums = [sum(b[at] for b in buckets if at < len(b)) for at in range(len(bounds) + 1)]
        told[name] = {f"p{percent}": quantile(bounds, sums, percent / 100) for percent in percents}
    return told


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return a quantile in thousandths of the bounds' unit, as if values lay evenly in their bucket.

    Those above all bounds count as the last of these. None if there are no values.
    """
    rank, below = share * sum(counts), 0.0
    for low, high, count in zip((0.0, *bounds), (*bounds, bounds[-1]), counts, strict=True):
        if count and below + count >= rank:
            return round(1000 * (low + (high - low) * (rank - below) / count), 2)
        below += count
    return None
