"""Fuzzing by dice: good inputs, mutated; the same ones for the same seed."""

import random
import time
from collections.abc import Callable, Iterable

from tests.fuzz.judge import left_behind, verdict, watched
from tests.fuzz.mutate import Mutator
from tests.fuzz.tally import Tally
from tests.fuzz.targets import Target

SAMPLE = 40
"""Inputs that are run again and again, to see whether memory rises."""


def by_dice(
    name: str, target: Target, seed: int, enough: Callable[[int], bool], more: Iterable[bytes] = ()
) -> Tally:
    """Run mutated inputs until `enough` says so of their number."""
    tally, dice = Tally(name), random.Random(f"{seed} {name}")
    mutator, pool = Mutator(dice, target.words), [*target.seeds, *more]
    began = time.monotonic()
    with watched():
        waiting = list(pool)
        while not enough(tally.inputs):
            data = waiting.pop() if waiting else mutator.mutated(dice.choice(pool), dice.choice(pool))
            tally.add(verdict(target.run, data))
            tally.inputs += 1
        tally.seconds = time.monotonic() - began
        sample = [mutator.mutated(dice.choice(pool)) for _ in range(SAMPLE)]
        tally.add(left_behind(target.run, sample))
    return tally
