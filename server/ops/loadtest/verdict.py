"""What a load test has shown, in words and in a table (pure)."""

from collections.abc import Iterator

import msgspec

from server.ops.loadtest.plan import Plan
from server.ops.loadtest.tally import MEASURES, Tally

BUSY = 0.85
"""Share of a core from which on a process of clients may itself be what is slow."""
OFTEN = 0.1
"""Share of the run from which on that counts."""
LATE = 0.05
"""Seconds; a process of clients that is that late in a tenth of its ticks had no processor."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


class Row(msgspec.Struct, frozen=True):
    """One measure: how many there were, its quantiles and its most, in milliseconds."""

    name: str
    count: int
    quantiles: dict[str, float]
    most: float


class Verdict(msgspec.Struct, frozen=True):
    """Whether every viewer got every token once and in order; `bottleneck` qualifies the times."""

    complete: bool
    words: str
    bottleneck: str | None


def verdict(plan: Plan, tally: Tally, cores: int) -> Verdict:
    """Judge a load test that is over."""
    viewers, whole = plan.sessions * plan.viewers, tally.count("whole")
    complete = tally.over and not tally.findings and whole == viewers
    if complete:
        words = (
            f"complete: {viewers:,} viewers of {plan.sessions:,} sessions read "
            f"{tally.count('tokens'):,} tokens, each once and in order"
        )
    else:
        wrong = [f"{what} ({found.count:,})" for what, found in tally.findings.items()]
        words = f"incomplete: {whole:,} of {viewers:,} viewers got everything"
        words += f"; found: {', '.join(wrong)}" if wrong else ""
    return Verdict(complete, words, bottleneck(tally, cores))


def bottleneck(tally: Tally, cores: int) -> str | None:
    """Say so if the load test itself was what was slow."""
    ticks = [share for shares in tally.cpu.values() for share in shares]
    if not ticks:
        return None
    busy = sum(share >= BUSY for share in ticks) / len(ticks)
    if busy >= OFTEN:
        return (
            f"the load test was itself the bottleneck: its processes were at their limit for {busy:.0%} "
            "of the time, and the times are partly its own"
        )
    late = tally.spread("lag").quantile(0.9) or 0.0
    if late >= LATE:
        return (
            f"the load test did not get the processor when it needed it ({late * 1000:.0f} ms late): "
            f"this machine's {cores} cores were full, and the times are partly its own"
        )
    return None


def own_share(tally: Tally, cores: int) -> float:
    """Return the load test's share of this machine's processor."""
    return sum(sum(shares) / len(shares) for shares in tally.cpu.values() if shares) / cores


def rows(tally: Tally) -> Iterator[Row]:
    """Yield what was measured at all."""
    for name in MEASURES:
        spread = tally.spreads.get(name)
        if spread is not None and spread.count:
            found = {label: spread.quantile(share) or 0.0 for label, share in QUANTILES.items()}
            in_ms = {label: round(seconds * 1000, 2) for label, seconds in found.items()}
            yield Row(name, spread.count, in_ms, round(spread.most * 1000, 2))
