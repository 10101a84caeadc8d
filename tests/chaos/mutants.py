"""Runs each broken server until its fault shows: a suite that lets one pass proves nothing."""

import asyncio
import signal
import tempfile
from pathlib import Path

from tests.chaos.cluster import Cluster
from tests.chaos.faults import FAULTS
from tests.chaos.mutant import MUTANTS
from tests.chaos.run import Outcome, run

SECONDS = 12.0
TRIES = 3


async def kill_a_node_behind_a_frozen_redis(cluster: Cluster) -> None:
    """Kill a node whose appends have been waiting for a while."""
    cluster.redis.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.4)
    node = cluster.dice.choice(cluster.mortal)
    node.signal(signal.SIGKILL)
    await node.gone()
    cluster.redis.process.send_signal(signal.SIGCONT)
    await node.start()


KNOWN = FAULTS | {"kill a node behind a frozen Redis": kill_a_node_behind_a_frozen_redis}
SHOWN_BY = {
    "deliver-before-the-log": ("kill a node behind a frozen Redis",),
    "acknowledge-what-was-lost": ("cut network", "kill connections", "partition"),
    "ignore-the-gate": (),
    "hear-no-bell": (),
    "forget-the-end": (),
    "reuse-an-epoch": ("freeze a node", "cut tails"),
}
"""The faults without which a mutant is like the server that it was made from."""

EXPECTED = {
    "deliver-before-the-log": {"I5", "I8b", "I8c"},
    "acknowledge-what-was-lost": {"I1", "I3", "I8b"},
    "ignore-the-gate": {"I6", "I6b"},
    "hear-no-bell": {"I3"},
    "forget-the-end": {"I3"},
    "reuse-an-epoch": {"I1", "I5", "I8b"},
}
"""The rules of which one must find a mutant: another one has found something else."""


def broken(outcome: Outcome) -> set[str]:
    """Return the rules that did not hold."""
    return {violation.rule for violation in outcome.verdict.violations}


def caught(name: str) -> Outcome:
    """Return the outcome of the first run in which a rule finds what it should, or of the last."""
    for seed in range(1, TRIES + 1):
        faults = {fault: KNOWN[fault] for fault in SHOWN_BY[name]}
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            outcome = asyncio.run(run(Path(folder), seed, SECONDS, faults, mutant=name))
        if broken(outcome) & EXPECTED[name]:
            break
    return outcome


assert SHOWN_BY.keys() == EXPECTED.keys() == MUTANTS.keys()
