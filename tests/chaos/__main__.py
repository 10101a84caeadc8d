"""Run the fault suite: python -m tests.chaos [--seed 1,2,3] [--seconds 60] [--faults "kill Redis,…"]

Exits with 1 on a violation (the histories of such a run are kept), on a rule that had nothing to judge in
any run, and on fewer sessions or faults than asked for.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.mutant import MUTANTS
from tests.chaos.mutants import EXPECTED, broken, caught
from tests.chaos.run import Outcome, run


def main() -> int:
    """Run each seed, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", default="1", help="seeds, one run each")
    parser.add_argument("--seconds", type=float, default=60, help="of faults, a run")
    parser.add_argument(
        "--at-once", type=int, default=12, help="sessions at a time, in each client process"
    )
    parser.add_argument("--faults", default=",".join(FAULTS), help="names; none for none")
    parser.add_argument("--pause", type=float, default=1.5, help="most seconds between two faults")
    parser.add_argument("--least-sessions", type=int, default=1, help="in all runs together")
    parser.add_argument("--least-faults", type=int, default=0, help="in all runs together")
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="a server broken on purpose")
    parser.add_argument("--mutants", action="store_true", help="each of them, which must be caught")
    args = parser.parse_args()
    # Ended by a signal, it ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if args.mutants:
        return _mutants()
    faults = {name: FAULTS[name] for name in args.faults.split(",") if name and name != "none"}
    outcomes = []
    for seed in map(int, args.seed.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        print(f"seed {seed}, {args.seconds:g} s", flush=True)
        pause = (args.pause / 5, args.pause)
        outcome = asyncio.run(run(folder, seed, args.seconds, faults, args.at_once, pause, args.mutant))
        print(outcome.summary(), flush=True)
        if outcome.verdict.violations:
            print(f"kept: {folder}", flush=True)
        else:
            shutil.rmtree(folder)
        outcomes.append(outcome)
    wanting = missing(outcomes, args.least_sessions, args.least_faults)
    for line in wanting:
        print(f"NOT ENOUGH: {line}", flush=True)
    return 1 if wanting or any(outcome.verdict.violations for outcome in outcomes) else 0


def missing(outcomes: Sequence[Outcome], sessions: int, faults: int) -> list[str]:
    """Say what runs lack to prove anything, all of them together."""
    judged = Counter[str]()
    for outcome in outcomes:
        judged.update(outcome.verdict.judged)
    lines = [f"{name} never fired" for name, count in judged.items() if not count]
    for what, least, count in (
        ("sessions", sessions, sum(len(outcome.history.sessions) for outcome in outcomes)),
        ("faults", faults, sum(sum(outcome.faults.values()) for outcome in outcomes)),
    ):
        lines += [f"{count} {what}, wanted {least}"] if count < least else []
    return lines


def _mutants() -> int:
    code = 0
    for name in MUTANTS:
        found = broken(caught(name))
        good = found & EXPECTED[name]
        print(f"{name}: {', '.join(sorted(found))}{'' if good else ' NOT CAUGHT'}", flush=True)
        code = code if good else 1
    return code


if __name__ == "__main__":
    sys.exit(main())
