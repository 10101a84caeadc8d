"""The command: `python -m tests.fuzz`; exits with 1 if anything was found."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import live
from tests.fuzz.dice import by_dice
from tests.fuzz.guided import available, by_atheris
from tests.fuzz.judge import Finding, verdict, watched
from tests.fuzz.tally import FOLDER, HEAD, Tally, corpus_of, report, save
from tests.fuzz.targets import TARGETS

SHARE = 0.4
"""Of the time, for the real server."""
GUIDED = 0.6
"""Of a target's time, for atheris."""


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz each target for its share of the time, or see one input again."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument(
        "--only", default=",".join((*TARGETS, "live")), help="targets, with commas between"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--again", nargs=2, metavar=("TARGET", "FILE"), help="run one input that was kept"
    )
    args = parser.parse_args(argv)
    # Ended by a signal, it ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if args.again:
        found = _again(args.again[0], Path(args.again[1]).read_bytes())
        print("\n".join(f"{f.kind}\n{f.told}" for f in found) or "nothing is wrong with it")
        return 1 if found else 0
    FOLDER.mkdir(exist_ok=True)
    names = args.only.split(",")
    how = "by atheris" if available() else "by dice: atheris is not installed"
    print(f"{len(names)} targets, {args.minutes:g} minutes, {how}\n{HEAD}", flush=True)
    tallies = []
    for name, seconds in _shares(names, args.minutes * 60).items():
        tallies.append(_tally(name, seconds, args.seed))
        print(tallies[-1].row, flush=True)
        for finding in tallies[-1].findings.values():
            save(name, finding)  # the run may be ended before it reports
    print(f"\n{report(tallies)}", flush=True)
    return 1 if any(tally.findings for tally in tallies) else 0


def _shares(names: list[str], seconds: float) -> dict[str, float]:
    """Return the seconds of each target."""
    pure = [name for name in names if name != "live"]
    alone = SHARE * seconds if pure else seconds
    each = (seconds - alone * ("live" in names)) / max(1, len(pure))
    return {name: alone if name == "live" else each for name in names}


def _tally(name: str, seconds: float, seed: int) -> Tally:
    until, tally = time.monotonic() + seconds, Tally(name)

    def enough(_: int) -> bool:
        return time.monotonic() >= until

    if name == "live":
        return asyncio.run(live.fuzz(seed, enough))
    if available():
        tally.join(by_atheris(name, GUIDED * seconds, seed))
    # What atheris has found mutates much faster without its instruments.
    more = [path.read_bytes() for path in sorted(corpus_of(name).iterdir())]
    tally.join(by_dice(name, TARGETS[name], seed, enough, more))
    return tally


def _again(name: str, data: bytes) -> list[Finding]:
    if name == "live":
        return asyncio.run(live.again(data))
    with watched():
        found = verdict(TARGETS[name].run, data)
    return [found] if found else []


if __name__ == "__main__":
    sys.exit(main())
