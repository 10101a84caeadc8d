"""One run: faults at random for some seconds while clients read, then quiet, then the verdict."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.checker import Verdict, judge
from tests.chaos.client import PATIENCE
from tests.chaos.cluster import ROOT, Cluster, NodeProcess
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.history import History, arrange, read

CLIENTS = 2
SETTLE = 18.0
"""Seconds of quiet after the last client: producers have lingered, tails are closed."""
MORE = 12
"""Files and tasks that a node may have at the end beyond those at the start: kept connections."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    verdict: Verdict
    history: History
    faults: Counter[str]
    lost_acked: int

    def summary(self) -> str:
        """Say it in a few lines."""
        verdict = self.verdict
        fired = ", ".join(f"{name} {count}" for name, count in verdict.judged.items())
        lines = [
            f"{len(self.history.sessions)} sessions, {sum(self.faults.values())} faults, "
            f"lost_acked={self.lost_acked}, {len(verdict.violations)} violations",
            f"faults: {', '.join(f'{name} {count}' for name, count in sorted(self.faults.items()))}",
            f"judged: {fired}",
        ]
        if verdict.silent:
            lines.append(f"never fired: {', '.join(verdict.silent)}")
        lines += [f"VIOLATION {v.rule} {v.sid}: {v.place}" for v in verdict.violations[:20]]
        return "\n".join(lines)


async def _clients(
    cluster: Cluster, name: str, module: str, nodes: Sequence[NodeProcess], seed: int, seconds: float,
    at_once: int = 1,
) -> None:  # fmt: skip
    """Run a process of clients to its end, and record that."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.chaos.{module}", "--folder", str(cluster.place), "--name", name,
        "--ports", ",".join(str(node.port) for node in nodes), "--seed", str(seed),
        "--seconds", str(seconds), "--at-once", str(at_once), cwd=ROOT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds + PATIENCE + 15):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    cluster.record("exited", name=name, code=process.returncode)


async def _harm(
    cluster: Cluster, faults: Mapping[str, Fault], seconds: float, pause: tuple[float, float]
) -> Counter[str]:
    done: Counter[str] = Counter()
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        await asyncio.sleep(cluster.dice.uniform(*pause))
        if cluster.forgetful:
            await asyncio.to_thread(cluster.keep_logs)
        name, began = cluster.dice.choice(sorted(faults)), time.monotonic()
        await faults[name](cluster)
        cluster.record("fault", at=began, name=name, lasted=time.monotonic() - began)
        done[name] += 1
    return done


async def run(
    folder: Path,
    seed: int,
    seconds: float,
    faults: Mapping[str, Fault] = FAULTS,
    at_once: int = 12,
    pause: tuple[float, float] = (0.3, 1.5),
    mutant: str = "",
    settle: float = SETTLE,
) -> Outcome:
    """Run, and judge from what was recorded in `folder`."""
    cluster = Cluster(folder, seed, mutant)
    try:
        await cluster.start()
        return await stretch(cluster, seed, seconds, faults, at_once, pause, settle)
    finally:
        await cluster.stop()


async def stretch(
    cluster: Cluster,
    seed: int,
    seconds: float,
    faults: Mapping[str, Fault],
    at_once: int,
    pause: tuple[float, float],
    settle: float = SETTLE,
    baseline: Mapping[str, int] | None = None,
    canary: Sequence[NodeProcess] = (),
) -> Outcome:
    """Do harm to a running cluster for a while, let it come to rest, and judge.

    What is held then is compared with a `baseline`, else with what is held now. A `canary` is read from
    these nodes meanwhile.
    """
    cluster.note("before", cluster.held(MORE) if baseline is None else baseline)
    clients = [
        asyncio.create_task(_clients(cluster, f"c{n}", "client", cluster.nodes, seed, seconds, at_once))
        for n in range(CLIENTS)
    ]
    if canary:
        one = _clients(cluster, "canary", "canary", canary, seed, seconds)
        clients.append(asyncio.create_task(one))
    done = await _harm(cluster, faults, seconds, pause) if faults else Counter()
    await asyncio.gather(*clients)
    if cluster.forgetful:
        cluster.keep_logs()
    await asyncio.sleep(settle)
    if settle >= SETTLE:
        cluster.note("after", cluster.held())
    sids = [record["sid"] for record in read(cluster.place) if record["kind"] == "started"]
    cluster.read_back(sids)
    history = arrange(read(cluster.place))
    return Outcome(judge(history), history, done, cluster.lost_acked)
