"""One fault at a time, and what clients saw of it: the table of docs/reliability.md.

python -m tests.chaos.table [--seconds 12]

It is written into that page.
"""

import argparse
import asyncio
import json
import re
import tempfile
from itertools import pairwise
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.history import History, Session, cursor
from tests.chaos.rules import behind
from tests.chaos.run import Outcome, run
from tests.processes import ROOT

PAGE = ROOT / "docs" / "reliability.md"
PLACE = re.compile(r"(?<=<!-- faults -->\n).*(?=<!-- /faults -->)", re.S)
HEADS = (
    "fault", "times", "sessions", "acknowledged, then lost by Redis", "lost to clients",
    "doubled to clients", "other findings", "resets", "typed ends", "recovery, s (longest silence)",
)  # fmt: skip
SETTLE = 8.0
"""Seconds after the last client in which every upstream is closed, and every lease has lapsed."""


def lost_and_doubled(history: History) -> tuple[int, int]:
    """Count the events that clients were never sent, and those that they were sent again, untold."""
    lost = doubled = 0
    for session in history.sessions.values():
        for records in session.clients.values():
            steps = [(had, cursor(r["id"])) for had, r in behind(records) if r["kind"] == "event"]
            jumps = [seq - (had[1] if had else 0) - 1 for had, (_, seq) in steps]
            lost += sum(jump for jump in jumps if jump > 0)
            doubled += sum(jump < 0 for jump in jumps)
    return lost, doubled


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
    lost, doubled = lost_and_doubled(outcome.history)
    # I4 says of each gap and each double what was counted here.
    others = sum(violation.rule != "I4" for violation in outcome.verdict.violations)
    for session in outcome.history.sessions.values():
        for records in session.clients.values():
            resets += sum(r["kind"] == "notice" and r["type"] == "reset" for r in records)
        ends += bool(session.lines) and '"producer_lost"' in session.lines[-1][1]
    figures = (
        outcome.faults[name], len(outcome.history.sessions), outcome.lost_acked, lost, doubled, others,
        resets, ends, f"{silence(outcome.history):.2f}",
    )  # fmt: skip
    return f"| {name} | {' | '.join(map(str, figures))} |"


def main() -> None:
    """Run each fault by itself, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=12)
    args = parser.parse_args()
    rows = [f"| {' | '.join(HEADS)} |", "| --- " * len(HEADS) + "|"]
    for name in FAULTS:
        with tempfile.TemporaryDirectory(prefix="table-") as folder:
            only = {name: FAULTS[name]}
            outcome = asyncio.run(run(Path(folder), 1, args.seconds, only, 8, (0.8, 1.5), settle=SETTLE))
        rows.append(row(name, outcome))
        print(outcome.summary(), rows[-1], sep="\n", flush=True)
    made = "".join(f"{line}\n" for line in rows)
    PAGE.write_text(PLACE.sub(lambda _: made, PAGE.read_text()))


if __name__ == "__main__":
    main()
