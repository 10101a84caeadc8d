"""A histogram of delays: fixed memory, 5 µs wide buckets up to 5 s (pure)."""

from array import array

WIDTH_NS = 5_000
BUCKETS = 1_000_000


class Delays:
    """Delays of tokens, in nanoseconds in, in milliseconds out."""

    __slots__ = ("count", "longest", "slots")

    def __init__(self) -> None:
        self.slots = array("l", bytes(8 * (BUCKETS + 1)))
        self.count = 0
        self.longest = 0

    def add(self, delay_ns: int) -> None:
        """Count one delay; all beyond the last bucket share it."""
        slot = delay_ns // WIDTH_NS
        self.slots[slot if slot < BUCKETS else BUCKETS] += 1
        self.count += 1
        if delay_ns > self.longest:
            self.longest = delay_ns

    def quantile(self, share: float) -> float:
        """Milliseconds that `share` of the delays do not exceed; nan if there are none."""
        rank = share * self.count
        seen = 0
        for slot, count in enumerate(self.slots):
            seen += count
            if count and seen >= rank:
                return min((slot + 1) * WIDTH_NS, self.longest) / 1e6
        return float("nan")

    def summary(self) -> dict[str, float]:
        """Give the p50, p99 and greatest delay in milliseconds."""
        return {
            "p50_ms": self.quantile(0.5),
            "p99_ms": self.quantile(0.99),
            "max_ms": self.longest / 1e6,
        }
