"""The invariants of ends that nobody wished for: each has harm, or a wish, that explains it (pure)."""

import json
from collections.abc import Iterator
from typing import Any

from tests.chaos.history import History, Session, cursor, meeting
from tests.chaos.rules import (
    FINALS,
    LEASE,
    SLACK,
    START,
    TOTAL,
    Finding,
    Rule,
    Violation,
    happened,
    kind_of,
)

HARM = (
    *TOTAL, "kill a node", "replace a node", "freeze a node", "freeze Redis", "partition",
    "pause Redis' clients", "fill Redis", "cut tails", "make holes",
    "kill a node behind a frozen Redis",
)  # fmt: skip
"""Faults through which a producer may lose its lease; not those after which it only connects again."""
OWN = {"shutdown": ("replace a node",), "store_full": ("fill Redis",)}
"""What a server says of an end that it makes by itself, and the faults in which it does."""


def recorded(history: History) -> Iterator[Finding]:
    """Each process of clients ran to its end: else nobody knows what the others of it have seen."""
    for record in history.exits:
        place = f"{record['name']} exited with {record['code']}"
        yield Violation("I0", "", place) if record["code"] else None


def explained(history: History) -> Iterator[Finding]:
    """A session that is not done was aborted, had a bad upstream, or met harm, at that time."""
    for session in history.sessions.values():
        epoch, event = _end(session)
        if event.get("type") in FINALS[1:]:
            why = event.get("code") or event.get("reason")
            good = _explained(history, session, epoch, str(why))
            yield None if good else Violation("I13", session.sid, f"{why}, and nothing explains it")


def _end(session: Session) -> tuple[int, dict[str, Any]]:
    """Return a session's last event, with its epoch, as the log has it, else as a client saw it."""
    seen = [(cursor(record["id"])[0], record["line"]) for _, record in session.events()]
    ends = session.lines[-1:] or [(epoch, line) for epoch, line in seen if kind_of(line) in FINALS]
    epoch, line = ends[-1] if ends else (0, "{}")
    return epoch, json.loads(line)


def _explained(history: History, session: Session, epoch: int, why: str) -> bool:
    if why == "user":
        return any(asked["action"] == "abort" for asked in session.asked.values())
    if why == "producer_lost":
        # It was claimed, and its epoch minted, by the clock.
        at = epoch / 1000 - history.wall
        return _meets(history, HARM, at - LEASE - SLACK, at)
    over = max((r["at"] for records in session.clients.values() for r in records), default=float("inf"))
    if why.startswith("upstream_"):
        # To a node that was frozen an upstream looks stalled.
        frozen = _meets(history, ("freeze a node",), session.started_at - START, over)
        return session.script != "whole" or frozen
    return _meets(history, OWN.get(why, ()), session.started_at - START, over)


def _meets(history: History, names: tuple[str, ...], since: float, until: float) -> bool:
    """Say whether one of these faults was going on in that time."""
    return any(fault["name"] in names for fault in meeting(history, since, until))


def stays(history: History) -> Iterator[Finding]:
    """A session's log is there, and nobody is told that it is gone, unless Redis has lost all."""
    for session in history.sessions.values():
        told = [
            record["at"]
            for records in session.clients.values()
            for record in records
            if record["kind"] == "closed" and record["how"] == "gone"
        ]
        missing = session.read_back and session.log is None
        until = min(told, default=float("inf"))
        good = not (told or missing) or happened(history, TOTAL, session.started_at - START, until)
        place = f"{len(told)} clients were told that it is gone" if told else "it has no log"
        yield None if good else Violation("I14", session.sid, place)


ENDS: dict[str, Rule] = {"I0": recorded, "I13": explained, "I14": stays}
