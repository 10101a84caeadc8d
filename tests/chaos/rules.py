"""The invariants, each a function from a history to what breaks it (pure).

A rule yields one finding for each thing it has judged: `None` if that was right, else a violation, so
that a rule that never had anything to judge shows. What is visible to a client (a `reset`, a typed
error, "gone") breaks nothing; what a client is not told does.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.chaos.history import History, Record, Session, cursor
from tests.fake_upstream import expected_text, token

FINALS = ("done", "aborted", "error")
GATE_GRACE = 0.25
"""Seconds for a pause to reach other connections (100 ms), and for a busy client to read."""
CLOSE_GRACE = 1.0
"""Seconds after which a model server on a busy machine has heard of its closed connection."""
LEASE = 1.5
FROZEN = 3.0
"""Seconds for which a node is frozen, or cut off, at most."""
SLACK = 3.0
"""Seconds that a busy machine may add to a lease before it is found to have lapsed."""
TOTAL = ("kill Redis", "flush Redis")
"""Faults after which Redis holds nothing."""
LOSSES = (*TOTAL, "cut tails", "make holes")
MOMENT = 1.0
"""Seconds from a fault's record to the loss itself."""
HEALED = 3.0
"""Seconds in which a producer has put back what Redis lost, or is replaced."""
START = 6.0
"""Seconds that a start may take, and be asked again in."""


class Violation(NamedTuple):
    """A rule that did not hold, of which session, where."""

    rule: str
    sid: str
    place: str


Finding = Violation | None
Rule = Callable[[History], Iterator[Finding]]
RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Callable[[Session], Iterator[str]]], Rule]:
    """Register a rule about one session: it yields "" for what is right, else what is wrong."""

    def register(judge: Callable[[Session], Iterator[str]]) -> Rule:
        def judge_all(history: History) -> Iterator[Finding]:
            for session in history.sessions.values():
                for place in judge(session):
                    yield Violation(name, session.sid, place) if place else None

        judge_all.__doc__ = judge.__doc__
        RULES[name] = judge_all
        return judge_all

    return register


def kind_of(line: str) -> str:
    """Return an event's type."""
    return str(json.loads(line)["type"])


def text_of(lines: list[tuple[int, str]]) -> str:
    """Return the text of a log."""
    events = (json.loads(line) for _, line in lines)
    return "".join(event["content"] for event in events if event["type"] == "content")


@rule("I1")
def dense(session: Session) -> Iterator[str]:
    """The log's seqs are 1, 2, 3 …, with no hole, and it is as long as it says."""
    if session.log is None:
        return
    head = 0
    for place, (epoch, first, ordinal, lines, _) in enumerate(session.log, 1):
        good = first == head + 1 and ordinal == place
        yield "" if good else f"entry {place} (epoch {epoch}): first {first}, ordinal {ordinal}"
        head += len(lines)


@rule("I2")
def faithful(session: Session) -> Iterator[str]:
    """The log is a prefix of what the upstream was to say; `done` means the whole of it."""
    if session.log is None or not session.lines:
        return
    whole, text = expected_text(session.seed, session.tokens), text_of(session.lines)
    yield "" if whole.startswith(text) else f"not the upstream's text: {_difference(whole, text)}"
    if kind_of(session.lines[-1][1]) == "done":
        yield "" if text == whole else f"done after {len(text)} of {len(whole)} characters"


@rule("I3")
def one_final(session: Session) -> Iterator[str]:
    """The log has exactly one final event, the last; every client saw exactly one, or was told."""
    if session.log is not None:
        finals = [at for at, (_, line) in enumerate(session.lines, 1) if kind_of(line) in FINALS]
        yield "" if finals == [len(session.lines)] else f"final events at {finals}"
    for client, records in session.clients.items():
        seen = _since_reset(records)
        finals = [r["id"] for r in seen if r["kind"] == "event" and kind_of(r["line"]) in FINALS]
        told = any(r["kind"] == "closed" and r["how"] == "gone" for r in seen)
        good = len(finals) == 1 or (not finals and told)
        yield "" if good else f"{client} saw the final events {finals}"


def _since_reset(records: list[Record]) -> list[Record]:
    resets = [at for at, r in enumerate(records) if r["kind"] == "notice" and r["type"] == "reset"]
    return records[resets[-1] :] if resets else records


@rule("I4")
def each_once(session: Session) -> Iterator[str]:
    """A client gets seq + 1 after seq, over all its connections; it resumes from its last event."""
    for client, records in session.clients.items():
        for last, record in behind(records):
            if record["kind"] == "attach":
                after = cursor(record["after"]) if record["after"] else None
                yield "" if after == last else f"{client} attached after {after}, had {last}"
            else:
                here = cursor(record["id"])
                good = here[1] == (last[1] if last else 0) + 1
                yield "" if good else f"{client} got {here} after {last}"


def behind(records: list[Record]) -> Iterator[tuple[tuple[int, int] | None, Record]]:
    """Yield each attach and event of a client with the last event that it had then."""
    last = None
    for record in records:
        if record["kind"] == "notice" and record["type"] == "reset":
            last = None
        elif record["kind"] in ("attach", "event"):
            yield last, record
            last = cursor(record["id"]) if record["kind"] == "event" else last


@rule("I5")
def same_bytes(session: Session) -> Iterator[str]:
    """An id stands for one event, for every client and in the log."""
    lines = {(epoch, seq): line for seq, (epoch, line) in enumerate(session.lines, 1)}
    for client, record in session.events():
        known = lines.setdefault(cursor(record["id"]), record["line"])
        good = known == record["line"]
        yield "" if good else f"{client} got {record['line']} as {record['id']}, not {known}"


def _pauses(session: Session) -> Iterator[tuple[Record, float, float]]:
    """Yield each acknowledged pause: its answer, when that came, when it may have been lifted."""
    for answer in session.answered:
        if answer["action"] == "pause" and answer["answer"].get("paused"):
            lifts = [
                asked["at"]
                for asked in session.asked.values()
                if asked["action"] in ("resume", "abort")
                and asked["at"] > session.asked[answer["call"]]["at"]
            ]
            yield answer, answer["at"], min(lifts, default=float("inf"))


@rule("I6")
def pause_holds_here(session: Session) -> Iterator[str]:
    """On the connection that was told of the pause nothing comes until somebody asks for more."""
    for answer, told, lifted in _pauses(session):
        if answer["conn"] is None:
            continue
        late = [
            record["id"]
            for _, record in session.events()
            if record["conn"] == answer["conn"] and told < record["at"] < lifted
        ]
        yield f"{answer['conn']} was sent {late[:3]} in a pause" if late else ""


def _aborts(session: Session) -> Iterator[Record]:
    for answer in session.answered:
        if answer["action"] == "abort" and answer["answer"].get("status") == "aborted":
            yield answer


@rule("I7b")
def upstream_is_closed(session: Session) -> Iterator[str]:
    """An abort that says that the upstream is closed is right; else the lease's end closes it."""
    for answer in _aborts(session):
        closed = answer["answer"].get("upstream_closed")
        within = CLOSE_GRACE if closed else LEASE + FROZEN + SLACK
        for upstream in session.upstreams:
            late = (upstream["closed_at"] or float("inf")) - answer["at"]
            yield "" if late <= within else f"its upstream was closed {late:.2f} s later"


@rule("I8")
def epochs_rise(session: Session) -> Iterator[str]:
    """The epoch never falls within what a client was sent without a reset."""
    for client, records in session.clients.items():
        epoch = 0
        for record in records:
            if record["kind"] == "notice" and record["type"] == "reset":
                epoch = 0
            elif record["kind"] == "event":
                now = cursor(record["id"])[0]
                yield "" if now >= epoch else f"{client} got {record['id']} after epoch {epoch}"
                epoch = max(epoch, now)


@rule("I9")
def fences_rise(session: Session) -> Iterator[str]:
    """In the log no entry has a lower epoch than the one before it."""
    if session.log is None:
        return
    epochs = [entry[0] for entry in session.log]
    for before, after in pairwise(epochs):
        yield "" if before <= after else f"epoch {after} after {before}"


@rule("I11")
def isolated(session: Session) -> Iterator[str]:
    """Every token is one of this session's own."""
    own = {token(session.seed, place) for place in range(session.tokens)}
    for client, record in session.events():
        event = json.loads(record["line"])
        if event["type"] == "content":
            good = event["content"] in own
            yield "" if good else f"{client} got {event['content']!r}, which is another's"


def idempotent(history: History) -> Iterator[Finding]:
    """One key is one session, and one call of the upstream."""
    keys: defaultdict[str, list[Session]] = defaultdict(list)
    for session in history.sessions.values():
        if session.key:
            keys[session.key].append(session)
    for key, sessions in keys.items():
        calls = sum(len(session.upstreams) for session in sessions)
        good = len(sessions) == 1 and calls <= (2 if _started_twice(history, sessions[0]) else 1)
        place = f"key {key}: {len(sessions)} sessions, {calls} calls"
        yield None if good else Violation("I10", sessions[0].sid, place)


def bounded(history: History) -> Iterator[Finding]:
    """Once all is quiet, descriptors, subscriptions and keys are back where they were."""
    before = {r["what"]: r["count"] for r in history.resources if r["when"] == "before"}
    after = {r["what"]: r["count"] for r in history.resources if r["when"] == "after"}
    for what, allowed in before.items():
        if what in after:
            good = after[what] <= allowed
            yield None if good else Violation("I12", "", f"{what}: {after[what]}, allowed {allowed}")


def pause_holds_everywhere(history: History) -> Iterator[Finding]:
    """No connection gets an event above the gate, shortly after the pause was answered.

    One that Redis loses before other nodes have heard of it is put back by the node that was asked.
    """
    for session in history.sessions.values():
        for answer, told, lifted in _pauses(session):
            if happened(history, LOSSES, told - MOMENT, told + GATE_GRACE):
                continue
            gate = answer["answer"]["gate"]
            late = [
                record["id"]
                for _, record in session.events()
                if cursor(record["id"])[1] > gate and told + GATE_GRACE < record["at"] < lifted
            ]
            place = f"{late[:3]} came above the gate {gate}"
            yield Violation("I6b", session.sid, place) if late else None


def aborted_is_closed(history: History) -> Iterator[Finding]:
    """After an abort that was answered the log has nothing beyond it, and stays aborted.

    A log that was only read before Redis lost its end says nothing about an abort behind that.
    """
    for session in history.sessions.values():
        for answer in _aborts(session):
            if session.log is None or happened(history, LOSSES, session.log_at, answer["at"]):
                continue
            last = kind_of(session.lines[-1][1]) if session.lines else "nothing"
            place = f"aborted, but the log ends in {last}"
            yield None if last == "aborted" else Violation("I7", session.sid, place)


def nothing_unlogged(history: History) -> Iterator[Finding]:
    """Whoever read to the end, and was told of no reset, read what the log holds.

    An abort may meet a log whose end Redis has just lost, before its producer can put it back; or be
    lost itself before anybody else has heard of it.
    """
    for session in history.sessions.values():
        told = {answer["call"]: answer["at"] for answer in session.answered}
        aborts = {call: r["at"] for call, r in session.asked.items() if r["action"] == "abort"}
        met = any(
            happened(history, LOSSES, at - HEALED, told.get(call, at) + GATE_GRACE)
            for call, at in aborts.items()
        )
        if session.log is None or met or _started_twice(history, session):
            continue
        held = {(epoch, seq) for seq, (epoch, _) in enumerate(session.lines, 1)}
        for client, records in session.clients.items():
            seen = [r for r in _since_reset(records) if r["kind"] == "event"]
            if seen and kind_of(seen[-1]["line"]) in FINALS:
                lost = [r["id"] for r in seen if cursor(r["id"]) not in held]
                place = f"{client} read {lost[:3]}, which the log has not"
                yield Violation("I8b", session.sid, place) if lost else None


def no_needless_reset(history: History) -> Iterator[Finding]:
    """Nobody is told to begin anew unless Redis has lost something, or the model says so."""
    for session in history.sessions.values():
        told = [r for records in session.clients.values() for r in records if r["kind"] == "notice"]
        if not told or happened(history, LOSSES, session.started_at - START, told[-1]["at"] + HEALED):
            continue
        for record in told:
            reason = record["facts"].get("reason") if record["type"] == "reset" else "restarted"
            place = f"{record['client']} was told to begin anew: {reason}"
            yield None if reason == "restarted" else Violation("I8c", session.sid, place)


def happened(history: History, names: tuple[str, ...], since: float, until: float) -> bool:
    """Say whether one of these faults began in that time."""
    return any(f["name"] in names and since <= f["at"] <= until for f in history.faults)


def _started_twice(history: History, session: Session) -> bool:
    """Say whether a Redis that lost all in the very moment of a start let a second node start it, too.

    Then the first one is fenced out.
    """
    at = session.started_at
    return session.key is not None and happened(history, TOTAL, at - START, at)


RULES |= {
    "I6b": pause_holds_everywhere,
    "I7": aborted_is_closed,
    "I8b": nothing_unlogged,
    "I8c": no_needless_reset,
    "I10": idempotent,
    "I12": bounded,
}


def _difference(whole: str, text: str) -> str:
    at = next((at for at, (a, b) in enumerate(zip(whole, text, strict=False)) if a != b), len(whole))
    return f"at {at}: {text[at : at + 20]!r} instead of {whole[at : at + 20]!r}"
