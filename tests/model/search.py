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
    nexts: list[list[int]] = []
    rests: list[int] = []
    at = 0
    while at < len(queue):
        state = queue[at]
        wrong, after_at = invariant(state), list[int]()
        if not wrong:
            for label, after, fault in steps(state):
                if after == state:
                    continue
                found = index.setdefault(after, len(queue))
                if found == len(queue):
                    queue.append(after)
                    origin.append((at, label))
                if not fault:
                    after_at.append(found)
            if not wrong and not after_at:
                rests.append(at)
                wrong = quiescent(state)
        nexts.append(after_at)
        if wrong:
            return Found(len(queue), wrong, _trace(origin, at))
        at += 1
        if at > limit:
            raise RuntimeError(f"more than {limit} states")
    restless = _restless(nexts, rests)
    if restless is not None:
        return Found(len(queue), "never comes to rest", _trace(origin, restless))
    return Found(len(queue), "", ())


def _restless(nexts: list[list[int]], rests: list[int]) -> int | None:
    """Return the first state from which no run without faults comes to rest."""
    before: list[list[int]] = [[] for _ in nexts]
    for at, afters in enumerate(nexts):
        for after in afters:
            before[after].append(at)
    calm, stack = set(rests), list(rests)
    while stack:
        for at in before[stack.pop()]:
            if at not in calm:
                calm.add(at)
                stack.append(at)
    return next((at for at in range(len(nexts)) if at not in calm), None)


def _trace(origin: list[tuple[int, str]], at: int) -> tuple[str, ...]:
    labels: list[str] = []
    while at > 0:
        at, label = origin[at]
        labels.append(label)
    return tuple(reversed(labels))
