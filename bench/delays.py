"""A histogram of delays: fixed memory, 5 µs steps up to 100 ms, 1 ms steps up to a minute (pure)."""

from array import array

FINE_NS, FINE_END_NS = 5_000, 100_000_000
COARSE_NS, COARSE_END_NS = 1_000_000, 60_000_000_000
FINE_SLOTS = FINE_END_NS // FINE_NS
SLOTS = FINE_SLOTS + COARSE_END_NS // COARSE_NS


def _upper_ns(slot: int) -> int:
    if slot < FINE_SLOTS:
        return (slot + 1) * FINE_NS
    return (slot - FINE_SLOTS + 1) * COARSE_NS


class Delays:
    """Delays of tokens, in nanoseconds in, in milliseconds out."""

    __slots__ = ("count", "longest", "slots")

    def __init__(self) -> None:
        self.slots = array("l", bytes(8 * (SLOTS + 1)))
        self.count = 0
        self.longest = 0

    def add(self, delay_ns: int) -> None:
        """Count one delay; all beyond a minute share the last slot."""
        if delay_ns < FINE_END_NS:
            self.slots[delay_ns // FINE_NS] += 1
        else:
            self.slots[min(FINE_SLOTS + delay_ns // COARSE_NS, SLOTS)] += 1
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
                return min(_upper_ns(slot), self.longest) / 1e6
        return float("nan")

    def summary(self) -> dict[str, float]:
        """Give the p50, p99 and greatest delay in milliseconds."""
        return {
            "p50_ms": self.quantile(0.5),
            "p99_ms": self.quantile(0.99),
            "max_ms": self.longest / 1e6,
        }
