"""Hours of faults, one every 10 s, against one set of processes: does anything grow, is anything lost?

python -m tests.chaos.soak [--minutes 60] [--seed 1]

Each stretch is judged by itself, so that a history fits into memory. The first node is never killed: its
memory is what may not grow.
"""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from tests.chaos.cluster import Cluster
from tests.chaos.faults import FAULTS
from tests.chaos.run import stretch

STRETCH = 90.0
AT_ONCE = 4
PAUSE = (8.0, 12.0)
WARM = 3
"""Stretches until memory is what it will be."""
MIB = 1024 * 1024


async def soak(folder: Path, minutes: float, seed: int) -> bool:
    """Go on for so long, a line for each stretch; return whether all was well."""
    cluster = Cluster(folder, seed, ttl=30)
    began = time.monotonic()
    held: list[tuple[float, float]] = []
    sessions = faults = violations = 0
    try:
        await cluster.start()
        cluster.mortal = cluster.nodes[1:]
        for number in count(1):
            part = folder / str(number)
            part.mkdir()
            cluster.begin(part)
            outcome = await stretch(cluster, part, seed * 1000 + number, STRETCH, FAULTS, AT_ONCE, PAUSE)
            sessions += len(outcome.history.sessions)
            faults += sum(outcome.faults.values())
            violations += len(outcome.verdict.violations)
            elapsed = (time.monotonic() - began) / 3600
            held.append((elapsed, cluster.nodes[0].memory() / MIB))
            client = cluster.redis.client()
            keys, used = client.dbsize(), client.info("memory")["used_memory"] / MIB
            client.close()
            print(
                f"{elapsed * 60:.1f} min: {sessions} sessions, {faults} faults, "
                f"{violations} violations; first node {held[-1][1]:.1f} MiB, "
                f"{cluster.nodes[0].descriptors()} files; Redis {keys} keys, {used:.1f} MiB",
                flush=True,
            )
            for violation in outcome.verdict.violations[:5]:
                print(f"  VIOLATION {violation}", flush=True)
            if elapsed * 60 >= minutes:
                break
    finally:
        await cluster.stop()
    warm = held[WARM:] if len(held) > WARM + 2 else held
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope if len(warm) > 2 else 0.0
    print(f"the first node's memory: {warm[0][1]:.1f} to {warm[-1][1]:.1f} MiB, {slope:+.1f} MiB an hour")
    return violations == 0


def main() -> int:
    """Run from the command line; exits with 1 on a violation."""
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
