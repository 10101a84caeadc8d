"""One fault at a time, and what clients saw of it: the table of docs/reliability.md.

python -m tests.chaos.table [--seconds 12]
"""

import argparse
import asyncio
import json
import tempfile
from itertools import pairwise
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.history import History, Session
from tests.chaos.run import Outcome, run

HEAD = (
    "| fault | times | sessions | acknowledged, then lost by Redis "
    "| gaps, doubles, any broken rule | resets | typed ends | longest silence, s |"
)


def silence(history: History) -> float:
    """Return the longest time between two events of a client whose session nobody paused, in seconds."""
    longest = 0.0
    for session in history.sessions.values():
        if session.asked or _broken_by_its_upstream(session):
            continue
        for records in session.clients.values():
            told = [record["at"] for record in records if record["kind"] == "event"]
            longest = max([longest, *(after - before for before, after in pairwise(told))])
    return longest


def _broken_by_its_upstream(session: Session) -> bool:
    """Say whether the model server was told to fail: then silence is its own."""
    last = session.lines[-1][1] if session.lines else "{}"
    return json.loads(last).get("code", "producer_lost") != "producer_lost"


def row(name: str, outcome: Outcome) -> str:
    """Return a fault's row."""
    resets = ends = 0
    for session in outcome.history.sessions.values():
        for records in session.clients.values():
            resets += sum(r["kind"] == "notice" and r["type"] == "reset" for r in records)
        ends += bool(session.lines) and '"producer_lost"' in session.lines[-1][1]
    return (
        f"| {name} | {outcome.faults[name]} | {len(outcome.history.sessions)} | {outcome.lost_acked} "
        f"| {len(outcome.verdict.violations)} | {resets} | {ends} | {silence(outcome.history):.2f} |"
    )


def main() -> None:
    """Run each fault by itself, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=12)
    args = parser.parse_args()
    print(HEAD)
    print("| --- " * HEAD.count(" | ") + "| --- |", flush=True)
    for name in FAULTS:
        with tempfile.TemporaryDirectory(prefix="table-") as folder:
            only = {name: FAULTS[name]}
            outcome = asyncio.run(run(Path(folder), 1, args.seconds, only, 8, (0.8, 1.5), settle=2.0))
        print(row(name, outcome), flush=True)


if __name__ == "__main__":
    main()
