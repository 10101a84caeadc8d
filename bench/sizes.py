"""How much work a run does: `FULL` for figures to quote, `QUICK` to see that all of it works."""

from dataclasses import dataclass

RATE = 50
LOG = 10_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """Seconds, sessions and viewers of each work; a fan-out is (viewers, tokens)."""

    steady_seconds: float
    fast_seconds: float
    step_seconds: float
    fine_steps: int
    fan_outs: tuple[tuple[int, int], ...]
    paced_seconds: float
    first_tokens: int
    idle: tuple[int, ...]
    replays: tuple[int, ...]
    workers: tuple[int, ...]
    patience: float


FULL = Sizes(
    steady_seconds=5,
    fast_seconds=4,
    step_seconds=1.5,
    fine_steps=4,
    fan_outs=((1_000, 250), (5_000, 100), (10_000, 100)),
    paced_seconds=5,
    first_tokens=60,
    idle=(5_000, 10_000),
    replays=(1, 100, 1_000),
    workers=(2, 4),
    patience=30,
)
QUICK = Sizes(
    steady_seconds=2,
    fast_seconds=2,
    step_seconds=0.7,
    fine_steps=1,
    fan_outs=((1_000, 75),),
    paced_seconds=2,
    first_tokens=20,
    idle=(1_000, 5_000),
    replays=(1, 100),
    workers=(2,),
    patience=10,
)
