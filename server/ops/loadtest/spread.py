"""How durations spread, in fixed steps of 2 %: small, and several can be added up (pure)."""

import math

import msgspec

LEAST = 1e-4
"""Seconds; all that is shorter counts as that."""
STEPS = 1 / math.log(1.02)


class Spread(msgspec.Struct):
    """Counts of durations in seconds."""

    buckets: dict[int, int] = msgspec.field(default_factory=dict)
    count: int = 0
    most: float = 0.0

    def add(self, seconds: float, n: int = 1) -> None:
        """Count a duration `n` times."""
        bucket = int(math.log(seconds / LEAST) * STEPS) + 1 if seconds > LEAST else 0
        self.buckets[bucket] = self.buckets.get(bucket, 0) + n
        self.count += n
        self.most = max(self.most, seconds)

    def merge(self, other: "Spread") -> None:
        """Count what the other counted, too."""
        for bucket, n in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + n
        self.count += other.count
        self.most = max(self.most, other.most)

    def quantile(self, share: float) -> float | None:
        """Return the seconds that `share` of the durations do not exceed; None if there are none."""
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= share * self.count:
                return min(LEAST * math.exp(bucket / STEPS), self.most)
        return None

    def curve(self) -> list[tuple[float, float]]:
        """Return points (seconds, share of durations up to that), in order."""
        points, seen = [], 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            points.append((LEAST * math.exp(bucket / STEPS), seen / self.count))
        return points
