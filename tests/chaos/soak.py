"""Hours of faults, one every 10 s, against one set of processes: does anything grow, is anything lost?

python -m tests.chaos.soak [--minutes 60] [--seed 1]

Each stretch is judged by itself, so that a history fits into memory. The first node is never killed nor
frozen: its memory is what may not grow, and a canary is read from it. All stretches are measured by what
was held at rest, once all was warm.
"""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.canary import Gap, gaps
from tests.chaos.cluster import FLAGS, Cluster
from tests.chaos.faults import FAULTS
from tests.chaos.rules import Violation
from tests.chaos.run import Outcome, stretch

STRETCH = 90.0
AT_ONCE = 4
PAUSE = (8.0, 12.0)
WARM = 3
"""Stretches until each pool has what it needs."""
KEPT = 4
"""Files, tasks and keys that may be there beyond the baseline: an idle connection, an index."""
TTL = 30
REST = TTL + float(FLAGS["linger"]) + 5
"""Seconds after which no session is left in Redis."""
STEEP = 6.0
"""MiB an hour by which the first node may grow over the last two thirds."""
LEAST = 0.5
"""Hours in which a slope is more than noise."""
MIB = 1024 * 1024


@dataclass
class Tally:
    """What the stretches have come to so far."""

    began: float = field(default_factory=time.monotonic)
    sessions: int = 0
    faults: int = 0
    violations: list[Violation] = field(default_factory=list)
    judged: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def hours(self) -> float:
        """How long it has been."""
        return (time.monotonic() - self.began) / 3600

    def add(self, outcome: Outcome, memory: float) -> None:
        """Take a stretch, and the MiB that the first node has after it."""
        self.sessions += len(outcome.history.sessions)
        self.faults += sum(outcome.faults.values())
        self.violations += outcome.verdict.violations
        self.judged.update(outcome.verdict.judged)
        self.memory.append((self.hours, memory))
        met = list(gaps(outcome.history))
        self.gaps += met
        print(
            f"{self.hours * 60:.1f} min: {self.sessions} sessions, {self.faults} faults, "
            f"{len(self.violations)} violations; first node {memory:.1f} MiB",
            flush=True,
        )
        for violation in outcome.verdict.violations[:5]:
            print(f"  VIOLATION {violation}", flush=True)
        for gap in met:
            when = f"{gap.seconds:.1f} s from {(gap.at - self.began) / 60:.2f} min on"
            print(f"  canary: {when}, {gap.transport}: {', '.join(gap.faults) or 'no fault'}", flush=True)

    def good(self) -> bool:
        """Say how it went, and whether that was well."""
        late = self.memory[len(self.memory) // 3 :]
        slope = statistics.linear_regression(*zip(*late, strict=True)).slope if len(late) > 2 else 0.0
        silent = [name for name, count in self.judged.items() if not count]
        steep = slope > STEEP and self.hours >= LEAST
        print(
            f"the first node's memory, last two thirds: {late[0][1]:.1f} to {late[-1][1]:.1f} MiB, "
            f"{slope:+.1f} MiB an hour (judged from half an hour on, allowed: {STEEP:g})"
        )
        longest = max((gap.seconds for gap in self.gaps), default=0.0)
        alone = sum(not gap.faults for gap in self.gaps)
        print(f"canary: {len(self.gaps)} gaps, the longest {longest:.1f} s; {alone} of them in no fault")
        print(
            f"{len(self.violations)} violations; never fired: {', '.join(silent) or 'none'}", flush=True
        )
        return not (self.violations or silent or steep)


async def soak(
    folder: Path, minutes: float, seed: int, seconds: float = STRETCH, warm: int = WARM
) -> bool:
    """Go on for so long, in stretches of so many `seconds`; return whether all was well."""
    cluster, tally, number, baseline = Cluster(folder, seed, ttl=TTL), Tally(), 0, None
    try:
        await cluster.start()
        cluster.mortal = cluster.nodes[1:]
        while number <= warm or tally.hours * 60 < minutes:
            if number == warm:
                resting = await _rest(cluster)
                baseline = {what: count + _more(what) for what, count in resting.items()}
                del baseline["keys"]
                print(f"at rest: {resting}", flush=True)
            number += 1
            part = folder / str(number)
            part.mkdir()
            cluster.begin(part)
            outcome = await stretch(
                cluster, seed * 1000 + number, seconds, FAULTS, AT_ONCE, PAUSE,
                baseline=baseline, canary=cluster.nodes[:1],
            )  # fmt: skip
            tally.add(outcome, cluster.nodes[0].memory() / MIB)
        end = await _rest(cluster)
    finally:
        await cluster.stop()
    grown = {what: count for what, count in end.items() if count > resting[what] + _more(what)}
    print(f"at rest: {end}; more than allowed: {grown or 'nothing'}")
    return tally.good() and not grown


def _more(what: str) -> int:
    return KEPT if what == "keys" or what.startswith(("files", "tasks")) else 0


async def _rest(cluster: Cluster) -> dict[str, int]:
    """Wait until every session has expired; return what is held then, with all keys."""
    await asyncio.sleep(REST)
    client = cluster.redis.client()
    keys = client.dbsize()
    client.close()
    return cluster.held() | {"keys": keys}


def main() -> int:
    """Run from the command line; exits with 1 on a violation, or if anything grows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    # Ended by a signal, it ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return 0 if asyncio.run(soak(Path(folder), args.minutes, args.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
