"""The table of works: what is measured, on whom, in which cases."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from bench import fan_out, one_to_one
from bench.sizes import Sizes
from bench.targets import Target

Measure = Callable[..., dict[str, float]]


class Case(NamedTuple):
    """One measurement of a work: `key` names it in results, `fits` says for which targets."""

    key: str
    title: str
    measure: Measure
    fits: Callable[[Target], bool]


def _sessions(target: Target) -> bool:
    return target.session is not None


def _redis_sessions(target: Target) -> bool:
    return target.session is not None and target.redis


def _idle(target: Target) -> bool:
    return target.most_viewers >= 10_000


def _replays(target: Target) -> bool:
    return target.replay is not None


def _resumes(target: Target) -> bool:
    return _replays(target) and target.redis


def _scales(target: Target) -> bool:
    return target.scales


def _fan_out_cases(sizes: Sizes) -> list[Case]:
    return [
        Case(
            f"{view}-{viewers}",
            f"{viewers:,} viewers, {view.upper()}, {tokens} tokens at 50 a second",
            partial(fan_out.w2, viewers=viewers, tokens=tokens, view=view),
            lambda target, n=viewers, v=view: n <= target.most_viewers and v in target.views,
        )
        for viewers, tokens in sizes.fan_outs
        for view in ("sse", "ws")
    ]


def cases(sizes: Sizes) -> dict[str, list[Case]]:
    """Return the cases of each work, in the order they run."""
    capacity = one_to_one.capacity
    return {
        "W1": [
            Case("load", "200 sessions × 50 tokens a second", one_to_one.w1, _sessions),
            Case("most", "the most sessions × 50 tokens a second", capacity, _sessions),
        ],
        "W2": _fan_out_cases(sizes),
        "W3": [Case("one", "one session, nothing else", one_to_one.w3, _sessions)],
        "W4": [Case("idle", "viewers that wait for a first token", fan_out.w4, _idle)],
        "W5": [
            Case("hot", "10,000 tokens again", partial(fan_out.w5, cold=False), _replays),
            Case("cold", "the same from Redis", partial(fan_out.w5, cold=True), _resumes),
        ],
        "W6": [
            Case(
                key,
                f"{sessions} sessions × {rate} tokens a second: 30,000 asked for",
                partial(one_to_one.w6, sessions=sessions, rate=rate),
                _redis_sessions,
            )
            for key, sessions, rate in (("fast", 200, 150), ("many", 600, 50))
        ],
        "W7": [
            Case(
                f"most-{workers}",
                f"the most sessions, {workers} workers on all cores",
                partial(capacity, workers=workers),
                _scales,
            )
            for workers in sizes.workers
        ],
    }
