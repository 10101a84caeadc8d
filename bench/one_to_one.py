"""W1, W3, W6, W7: many sessions, each read by the client that began it."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from statistics import median

from bench.load import Viewer
from bench.rig import Rig
from bench.sizes import RATE, Sizes
from bench.usage import Usage

Rigged = Callable[..., AbstractContextManager[Rig]]
Metrics = dict[str, float]

ENDLESS = 90_000
SETTLE = 0.6
OPENING = 3
WARM_UP = 25
KEPT_UP = 0.97
MOST_SESSIONS = 3_000
LIMITS_MS = (10, 50)


def steady(rigged: Rigged, sizes: Sizes, sessions: int, seconds: float, rate: int = RATE) -> Metrics:
    """Measure the cost of a token at `sessions` × `rate` tokens a second."""
    with rigged() as rig:
        viewers = rig.open_sessions(sessions, f"rate={rate} count={ENDLESS}", seconds=5)
        rig.load.run(SETTLE)
        rig.upstream_stats()
        rig.load.restart_clock()
        usage = Usage(rig)
        rig.load.run(seconds)
        report = usage.report(rig.load.tokens)
        counts: Metrics = {"gaps": rig.load.gaps, "open": rig.load.answered - rig.load.refused}
        if rig.redis:
            delivered = max(1, sum(viewer.seen for viewer in viewers))
            counts["redis_bytes"] = rig.log_bytes() / delivered
        return report | rig.load.delays.summary() | counts | rig.upstream_stats()


def w1(rigged: Rigged, sizes: Sizes) -> Metrics:
    """200 sessions."""
    return steady(rigged, sizes, 200, sizes.steady_seconds)


def w6(rigged: Rigged, sizes: Sizes, sessions: int, rate: int) -> Metrics:
    """30,000 tokens a second: many sessions, or fast ones."""
    return steady(rigged, sizes, sessions, sizes.fast_seconds, rate)


def _step(rig: Rig, viewers: list[Viewer], sessions: int, seconds: float) -> tuple[float, float, float]:
    more = sessions - len(viewers)
    viewers += rig.open_sessions(more, f"rate={RATE} count={ENDLESS}", 32, OPENING)
    if rig.load.answered < sessions or rig.load.refused:
        return math.inf, 0.0, 0.0
    rig.load.run(SETTLE)
    rig.load.restart_clock()
    began = time.monotonic()
    usage = Usage(rig)
    rig.load.run(seconds)
    expected = sessions * RATE * (time.monotonic() - began)
    report = usage.report(rig.load.tokens)
    kept_up = rig.load.tokens >= KEPT_UP * expected and not rig.load.gaps
    p99 = rig.load.delays.quantile(0.99) if kept_up else math.inf
    return p99, report["other_core"], report["foreign"]


def _climb(
    rigged: Rigged, rungs: Sequence[int], seconds: float
) -> Iterator[tuple[int, float, float, float]]:
    with rigged() as rig:
        viewers: list[Viewer] = []
        _step(rig, viewers, WARM_UP, seconds)
        for sessions in rungs:
            p99, other, foreign = _step(rig, viewers, sessions, seconds)
            yield sessions, p99, other, foreign
            if not p99 <= LIMITS_MS[-1]:
                return


def most_within(points: Sequence[tuple[int, float]], limit: float) -> float:
    """Return the most sessions whose p99 stays within `limit`, between points by interpolation."""
    within = [point for point in points if point[1] <= limit]
    if not within:
        return 0.0
    good, low = max(within)
    beyond, high = min((point for point in points if point[0] > good), default=(good, math.inf))
    if not (math.isfinite(high) and high > low > 0):
        return good
    return good * (beyond / good) ** (math.log(limit / low) / math.log(high / low))


def capacity(rigged: Rigged, sizes: Sizes, **how: int) -> Metrics:
    """Find how many sessions fit: by doubling, then in small steps from the last that did."""

    def fresh() -> AbstractContextManager[Rig]:
        return rigged(**how)

    doubling = [2 * WARM_UP * 2**n for n in range(12) if 2 * WARM_UP * 2**n <= MOST_SESSIONS]
    seen = list(_climb(fresh, doubling, sizes.step_seconds))
    good = max((n for n, p99, *_ in seen if p99 <= LIMITS_MS[-1]), default=WARM_UP)
    ratio = 2 ** (1 / (sizes.fine_steps + 1))
    fine = [round(good * ratio**n) for n in range(1, sizes.fine_steps + 1)]
    seen += _climb(fresh, fine, sizes.step_seconds)
    points = [(sessions, p99) for sessions, p99, *_ in seen]
    found = {f"sessions_{limit}": most_within(points, limit) for limit in LIMITS_MS}
    return found | {
        "other_core": max(other for *_, other, _ in seen),
        "foreign": max(foreign for *_, foreign in seen),
    }


def w3(rigged: Rigged, sizes: Sizes) -> Metrics:
    """One session at a time: the delay of its tokens, and of the first one."""
    with rigged() as rig:
        rig.open_sessions(1, "rate=100 count=5")
        rig.load.run(0.3)
        first = []
        for _ in range(sizes.first_tokens):
            [viewer] = rig.open_sessions(1, "rate=1000 count=1")
            rig.load.run(2, lambda viewer=viewer: bool(viewer.first_ns))
            first.append((viewer.first_ns - viewer.opened_ns) / 1e6)
        rig.new_load()
        rig.open_sessions(1, f"rate=100 count={ENDLESS}")
        rig.load.run(0.2)
        rig.load.restart_clock()
        rig.load.run(sizes.paced_seconds)
        return rig.load.delays.summary() | {"ttft_ms": median(first), "gaps": rig.load.gaps}
