"""Breadth-first search over all reachable states, with the shortest trace to whatever is wrong."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

S = TypeVar("S")


class Found(NamedTuple):
    """How a search ended: states seen, what is wrong ('' for nothing), and the steps to it."""

    states: int
    wrong: str
    trace: tuple[str, ...]


def search(
    start: S,
    steps: Callable[[S], Iterable[tuple[str, S, bool]]],
    invariant: Callable[[S], str],
    quiescent: Callable[[S], str],
    limit: int = 10_000_000,
) -> Found:
    """Visit every state once; stop at the first one that is wrong.

    `steps` yields a label, the next state, and whether that step is a fault. `invariant` judges every
    state; `quiescent` every state in which nothing but a fault can happen.
    """
    index = {start: 0}
    queue: list[S] = [start]
    origin: list[tuple[int, str]] = [(-1, "")]
    at = 0
    while at < len(queue):
        state = queue[at]
        wrong, busy = invariant(state), False
        if not wrong:
            for label, after, fault in steps(state):
                if after == state:
                    continue
                busy = busy or not fault
                if after not in index:
                    index[after] = len(queue)
                    queue.append(after)
                    origin.append((at, label))
            if not busy:
                wrong = quiescent(state)
        if wrong:
            return Found(len(queue), wrong, _trace(origin, at))
        at += 1
        if at > limit:
            raise RuntimeError(f"more than {limit} states")
    return Found(len(queue), "", ())


def _trace(origin: list[tuple[int, str]], at: int) -> tuple[str, ...]:
    labels: list[str] = []
    while at > 0:
        at, label = origin[at]
        labels.append(label)
    return tuple(reversed(labels))
