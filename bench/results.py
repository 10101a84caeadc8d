"""What the rounds measured, and the goals that are ratios of it (pure)."""

import math
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

Metrics = dict[str, float]


class Results:
    """Metrics by work, case and target, one entry a round; what failed is in `failures`."""

    def __init__(self) -> None:
        self.rounds: defaultdict[tuple[str, str], defaultdict[str, dict[int, Metrics]]]
        self.rounds = defaultdict(lambda: defaultdict(dict))
        self.failures: dict[tuple[str, str, str], str] = {}

    def add(self, work: str, case: str, target: str, turn: int, metrics: Metrics) -> None:
        """Keep one measurement."""
        self.rounds[work, case][target][turn] = metrics

    def values(self, work: str, case: str, target: str, metric: str) -> dict[int, float]:
        """Return a metric's value in each round that has it."""
        rounds = self.rounds.get((work, case), {}).get(target, {})
        return {turn: found[metric] for turn, found in rounds.items() if metric in found}


class Figure(NamedTuple):
    """A median with its spread, and the number of rounds behind it."""

    middle: float
    low: float
    high: float
    rounds: int


def figure(values: dict[int, float]) -> Figure | None:
    """Sum rounds up."""
    real = [value for value in values.values() if not math.isnan(value)]
    if not real:
        return None
    return Figure(median(real), min(real), max(real), len(real))


class At(NamedTuple):
    """A metric of a target in a case of a work."""

    work: str
    case: str
    target: str
    metric: str


def ratio(above: float, below: float) -> float:
    """Divide; a peer that did nothing at all gives no ratio, hence no goal met."""
    return above / below if below else math.nan


def difference(above: float, below: float) -> float:
    """Subtract."""
    return above - below


def itself(value: float) -> float:
    """Take the figure as it is."""
    return value


class Goal(NamedTuple):
    """`compute` of the figures `of`, round by round; its median is held against `limit`."""

    text: str
    of: tuple[At, ...]
    compute: Callable[..., float]
    sign: str
    limit: float


SIGNS: dict[str, Callable[[float, float], bool]] = {
    "≤": lambda value, limit: value <= limit,
    "≥": lambda value, limit: value >= limit,
}
US = "tokenwire"


def _pair(work: str, case: str, metric: str, peer: str) -> tuple[At, At]:
    return At(work, case, US, metric), At(work, case, peer, metric)


def _inverse(work: str, case: str, metric: str, peer: str) -> tuple[At, At]:
    ours, theirs = _pair(work, case, metric, peer)
    return theirs, ours


_MS_1, _MS_1000 = "ms_1", "ms_1000"
GOALS = (
    Goal("W1 CPU a token / naive's", _pair("W1", "load", "cpu_us", "naive"), ratio, "≤", 0.25),
    Goal("W1 CPU a token / nginx'", _pair("W1", "load", "cpu_us", "nginx"), ratio, "≤", 2.2),
    Goal("W1 sessions at 50 ms / naive's", _pair("W1", "most", "sessions_50", "naive"), ratio, "≥", 8),
    Goal("W1 sessions at 50 ms / hono's", _pair("W1", "most", "sessions_50", "hono"), ratio, "≥", 3),
    Goal("W2 1,000 SSE: CPU / nchan's", _pair("W2", "sse-1000", "cpu_us", "nchan"), ratio, "≤", 1.0),
    Goal("W2 1,000 WS: CPU / nchan's", _pair("W2", "ws-1000", "cpu_us", "nchan"), ratio, "≤", 1.1),
    Goal("W2 1,000 SSE: p99 / nchan's", _pair("W2", "sse-1000", "p99_ms", "nchan"), ratio, "≤", 1.0),
    Goal("W2 1,000 WS: p99 / nchan's", _pair("W2", "ws-1000", "p99_ms", "nchan"), ratio, "≤", 1.0),
    *(
        goal
        for view in ("sse", "ws")
        for goal in (
            Goal(
                f"W2 10,000 {view.upper()}: throughput / nchan's",
                _pair("W2", f"{view}-10000", "tok_s", "nchan"),
                ratio,
                "≥",
                1.5,
            ),
            Goal(
                f"W2 10,000 {view.upper()}: p50 / nchan's",
                _pair("W2", f"{view}-10000", "p50_ms", "nchan"),
                ratio,
                "≤",
                0.2,
            ),
            Goal(
                f"W2 10,000 {view.upper()}: tokens lost",
                (At("W2", f"{view}-10000", US, "lost"),),
                itself,
                "≤",
                0,
            ),
        )
    ),
    Goal("W3 added p50, ms", _pair("W3", "one", "p50_ms", "direct"), difference, "≤", 0.4),
    Goal("W3 added p99, ms", _pair("W3", "one", "p99_ms", "direct"), difference, "≤", 2.0),
    Goal("W3 first token / node's", _pair("W3", "one", "ttft_ms", "node_http"), ratio, "≤", 1.5),
    Goal("W4 memory a viewer / nchan's", _pair("W4", "idle", "bytes", "nchan"), ratio, "≤", 1.5),
    Goal("W4 viewers held", (At("W4", "idle", US, "held"),), itself, "≥", 10_000),
    Goal(
        "W5 1,000 hot, durable's time / ours", _inverse("W5", "hot", _MS_1000, "durable"), ratio, "≥", 5
    ),
    Goal("W5 1 client cold, ms", (At("W5", "cold", US, _MS_1),), itself, "≤", 15),
    Goal(
        "W5 1,000 clients, cold / hot",
        (At("W5", "cold", US, _MS_1000), At("W5", "hot", US, _MS_1000)),
        ratio,
        "≤",
        2,
    ),
    Goal("W6 Redis CPU a token / naive's", _pair("W1", "load", "redis_us", "naive"), ratio, "≤", 0.1),
    Goal("W6 the same at 30,000 tok/s", _pair("W6", "fast", "redis_us", "naive"), ratio, "≤", 1 / 30),
)


def judge(goal: Goal, results: Results) -> tuple[Figure | None, bool]:
    """Compute a goal's figure from the rounds that have all of it, and say whether it is met."""
    parts = [results.values(*at) for at in goal.of]
    turns = set.intersection(*(set(part) for part in parts))
    found = figure({turn: goal.compute(*(part[turn] for part in parts)) for turn in turns})
    return found, found is not None and SIGNS[goal.sign](found.middle, goal.limit)
