"""Run the fault suite: python -m tests.chaos [--seed 1,2,3] [--seconds 60] [--faults "kill Redis,…"]

Exits with 1 on a violation; the histories of such a run are kept.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.mutant import MUTANTS
from tests.chaos.mutants import caught
from tests.chaos.run import run


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
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="a server broken on purpose")
    parser.add_argument("--mutants", action="store_true", help="each of them, which must be caught")
    args = parser.parse_args()
    # Ended by a signal, it ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if args.mutants:
        return _mutants()
    faults = {name: FAULTS[name] for name in args.faults.split(",") if name and name != "none"}
    code = 0
    for seed in map(int, args.seed.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        print(f"seed {seed}, {args.seconds:g} s", flush=True)
        pause = (args.pause / 5, args.pause)
        outcome = asyncio.run(run(folder, seed, args.seconds, faults, args.at_once, pause, args.mutant))
        print(outcome.summary(), flush=True)
        if outcome.verdict.violations:
            print(f"kept: {folder}", flush=True)
            code = 1
        else:
            shutil.rmtree(folder)
    return code


def _mutants() -> int:
    code = 0
    for name in MUTANTS:
        found = sorted({violation.rule for violation in caught(name).verdict.violations})
        print(f"{name}: {', '.join(found) if found else 'NOT CAUGHT'}", flush=True)
        code = code if found else 1
    return code


if __name__ == "__main__":
    sys.exit(main())
