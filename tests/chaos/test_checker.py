"""A whole history passes; each of its mutants is caught, by the rule that it breaks."""

import copy
import json

import pytest

from tests.chaos.canary import gaps
from tests.chaos.checker import judge
from tests.chaos.history import arrange, read
from tests.chaos.table import lost_and_doubled
from tests.fake_upstream import token

E = 100_000
WALL = E / 1000 - 15
"""An epoch of E is minted 15 s after the start."""
TOKENS = 6


def rec(at, kind, **fields):
    return {"at": at, "kind": kind} | fields


def content(place, seed="s"):
    return json.dumps({"type": "content", "content": token(seed, place)})


DONE = json.dumps({"type": "done", "finish_reason": "stop"})
ABORTED = json.dumps({"type": "aborted", "reason": "user"})


def failed(code):
    return json.dumps({"type": "error", "code": code, "message": "", "retryable": True})


LOST = failed("producer_lost")


def log_of(lines, final):
    entries, head = [[E, 1, 1, [], False]], 0
    for at, line in enumerate(lines):
        entries.append([E, head + 1, at + 2, [line], False])
        head += 1
    entries.append([E + 1 if final == ABORTED else E, head + 1, len(lines) + 2, [final], True])
    return entries


def reading(client, lines, at, conns=2):
    """Yield a client that reads all, over `conns` connections."""
    after = None
    for seq, (epoch, line) in enumerate(lines, 1):
        if (seq - 1) % (len(lines) // conns + 1) == 0:
            conn = f"{client}/{seq}"
            yield rec(
                at + seq - 0.6,
                "attach",
                client=client,
                conn=conn,
                node=0,
                transport="sse",
                after=after,
            )
            yield rec(at + seq - 0.5, "notice", client=client, conn=conn, type="session", facts={})
        after = f"{epoch}-{seq}"
        yield rec(at + seq, "event", client=client, conn=conn, id=after, line=line)
    yield rec(at + seq, "closed", client=client, conn=conn, how="final")


def finished():
    lines = [content(place) for place in range(TOKENS)]
    told = [(E, line) for line in (*lines, DONE)]
    yield rec(0, "started", seed="s", tokens=TOKENS, key="k", script="whole")
    yield from reading("a", told, at=10)
    yield from reading("b", told, at=10.5)
    # b pauses after its third event, and goes on after its fourth was held for a second.
    yield rec(13.6, "asked", call="p", action="pause", conn="b/1")
    yield rec(13.7, "answered", call="p", action="pause", conn="b/1", answer={"paused": True, "gate": 4})
    yield rec(14.1, "asked", call="r", action="resume", conn=None)
    yield rec(14.2, "answered", call="r", action="resume", conn=None, answer={"paused": False})
    yield rec(18, "upstream", seed="s", sent=TOKENS, closed_at=17.0, closed_by_peer=False)
    yield rec(30, "log", entries=log_of(lines, DONE))


def stopped():
    lines = [content(place, "x") for place in range(3)]
    told = [(E, line) for line in lines] + [(E + 1, ABORTED)]
    yield rec(0, "started", seed="x", tokens=TOKENS, key=None, script="whole")
    yield from reading("c", told, at=10)
    yield rec(13.1, "asked", call="q", action="abort", conn=None)
    answer = {"status": "aborted", "id": f"{E + 1}-4", "upstream_closed": True}
    yield rec(13.3, "answered", call="q", action="abort", conn=None, answer=answer)
    yield rec(18, "upstream", seed="x", sent=5, closed_at=13.2, closed_by_peer=True)
    yield rec(30, "log", entries=log_of(lines, ABORTED))


def good():
    records = [record | {"sid": "S"} for record in finished()]
    records += [record | {"sid": "X"} for record in stopped()]
    records += [
        rec(0, "resources", when="before", what="fds", count=20),
        rec(40, "resources", when="after", what="fds", count=19),
        rec(40, "clock", wall=WALL),
        rec(40, "exited", name="c0", code=0),
    ]
    return records


def pick(records, kind, nth=0, **fields):
    found = [r for r in records if r["kind"] == kind and all(r.get(k) == v for k, v in fields.items())]
    return found[nth]


def drop(kind, nth=0, **fields):
    return lambda records: records.remove(pick(records, kind, nth, **fields))


def change(kind, nth=0, *, to, **fields):
    return lambda records: pick(records, kind, nth, **fields).update(to)


def repeat(kind, nth=0, *, later=0.01, **fields):
    def mutate(records):
        records.append(
            pick(records, kind, nth, **fields) | {"at": pick(records, kind, nth, **fields)["at"] + later}
        )

    return mutate


def entries(sid, edit):
    def mutate(records):
        edit(pick(records, "log", sid=sid)["entries"])

    return mutate


def swapped(records):
    one, two = (pick(records, "event", n, client="a") for n in (1, 2))
    one["at"], two["at"] = two["at"], one["at"]


def another_client_another_text(records):
    pick(records, "event", 2, client="a")["line"] = content(5)


def unasked_reset(records):
    notice = {"type": "reset", "facts": {"reason": "diverged"}}
    records.append(rec(16.2, "notice", sid="S", client="a", conn="a/1", **notice))


def ends_in(sid, final):
    """Return what has a session end in that event, in the log and for its clients."""

    def mutate(records):
        entries(sid, lambda log: log[-1].__setitem__(3, [final]))(records)
        for record in records:
            if record["kind"] == "event" and record["sid"] == sid and record["line"] in (ABORTED, DONE):
                record["line"] = final

    return mutate


def aborted_late(records):
    """Have the session that was done aborted, after its log was read for the last time."""
    answer = {"status": "aborted", "id": f"{E + 1}-1", "upstream_closed": True}
    records += [
        rec(31.0, "asked", sid="S", call="l", action="abort", conn=None),
        rec(31.1, "answered", sid="S", call="l", action="abort", conn=None, answer=answer),
        rec(60.0, "log", sid="S", entries=None),
    ]


def gone(records):
    """Have one client told that its session is gone."""
    pick(records, "closed", client="a")["how"] = "gone"
    records.remove(pick(records, "event", 6, client="a"))


def harmed(mutate, name, at, lasted=0.0):
    """Do that in a run with a fault."""

    def both(records):
        mutate(records)
        records.append(rec(at, "fault", name=name, lasted=lasted))

    return both


def not_yet_closed(closed_at):
    """Have an abort say that the upstream is not closed yet, and when it was."""

    def mutate(records):
        pick(records, "answered", call="q")["answer"]["upstream_closed"] = False
        pick(records, "upstream", seed="x")["closed_at"] = closed_at

    return mutate


def another_epoch(log):
    for entry in log[4:]:
        entry[0] = E + 5


def second_session_of_a_key(records):
    records.append(rec(1, "started", sid="T", seed="t", tokens=1, key="k", script="whole"))


MUTANTS = {
    "a hole in the log": (entries("S", lambda log: log.pop(3)), "I1"),
    "an entry twice in the log": (entries("S", lambda log: log.insert(3, log[3])), "I1"),
    "a wrong ordinal": (entries("S", lambda log: log[2].__setitem__(2, 9)), "I1"),
    "another text in the log": (entries("S", lambda log: log[2].__setitem__(3, [content(4)])), "I2"),
    "done with less text": (entries("S", lambda log: log.pop(-2)), "I2"),
    "an end in the middle": (entries("S", lambda log: log[2].__setitem__(3, [DONE])), "I3"),
    "no end in the log": (entries("S", lambda log: log.pop()), "I3"),
    "a client without an end": (drop("event", 6, client="a"), "I3"),
    "a client with two ends": (repeat("event", 6, client="a"), "I3"),
    "an event lost": (drop("event", 2, client="a"), "I4"),
    "an event twice": (repeat("event", 2, client="a"), "I4"),
    "events in another order": (swapped, "I4"),
    "a resume from elsewhere": (change("attach", 1, client="a", to={"after": f"{E}-3"}), "I4"),
    "a start from the beginning in silence": (change("attach", 1, client="a", to={"after": None}), "I4"),
    "another event under an id": (another_client_another_text, "I5"),
    "an event while its connection is paused": (change("event", 3, client="b", to={"at": 13.8}), "I6"),
    "an event above the gate elsewhere": (change("asked", call="r", to={"at": 16.2}), "I6b"),
    "an abort that ends in done": (entries("X", lambda log: log[-1].__setitem__(3, [DONE])), "I7"),
    "an abort of what is done": (aborted_late, "I7"),
    "an abort of what is done before a fault": (harmed(aborted_late, "cut tails", 31.2), "I7"),
    "an abort of what was done after a fault": (harmed(aborted_late, "cut tails", 29.0), "I7"),
    "an abort that closed nothing": (change("upstream", seed="x", to={"closed_at": None}), "I7b"),
    "an abort that closed late": (change("upstream", seed="x", to={"closed_at": 14.5}), "I7b"),
    "an upstream that stays open": (not_yet_closed(None), "I7b"),
    "an upstream that stays open for long": (not_yet_closed(21.0), "I7b"),
    "a producer lost without a fault": (ends_in("X", LOST), "I13"),
    "a producer lost long after a fault": (harmed(ends_in("X", LOST), "kill a node", 9.0, 1.0), "I13"),
    "a producer lost before a fault": (harmed(ends_in("X", LOST), "kill a node", 15.1), "I13"),
    "a producer lost through a bell": (harmed(ends_in("X", LOST), "kill doorbells", 14.0), "I13"),
    "a whole upstream that failed": (ends_in("X", failed("upstream_error")), "I13"),
    "an abort that nobody asked for": (ends_in("S", ABORTED), "I13"),
    "an unknown end": (harmed(ends_in("X", failed("odd")), "kill Redis", 14.0), "I13"),
    "a client told without a fault that all is gone": (gone, "I14"),
    "a client told so before a fault": (harmed(gone, "kill Redis", 17.1), "I14"),
    "a client told so after half a loss": (harmed(gone, "cut tails", 15.0), "I14"),
    "a session without a log": (change("log", sid="S", to={"entries": None}), "I14"),
    "clients that fell over": (change("exited", to={"code": 1}), "I0"),
    "an epoch that falls": (change("event", 3, client="a", to={"id": f"{E - 1}-4"}), "I8"),
    "a reset that nothing called for": (unasked_reset, "I8c"),
    "an event that the log has not": (entries("S", another_epoch), "I8b"),
    "a lower fence in the log": (entries("S", lambda log: log[4].__setitem__(0, E - 1)), "I9"),
    "two sessions of one key": (second_session_of_a_key, "I10"),
    "two calls of the upstream for one key": (repeat("upstream", seed="s"), "I10"),
    "a token of another session": (change("event", 1, client="c", to={"line": content(1)}), "I11"),
    "descriptors that stay": (change("resources", when="after", to={"count": 21}), "I12"),
}  # fmt: skip


def test_a_whole_history_passes_and_every_rule_fires():
    verdict = judge(arrange(good()))
    assert (verdict.violations, verdict.silent) == ((), ())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_violation_is_caught(name):
    mutate, rule = MUTANTS[name]
    records = copy.deepcopy(good())
    mutate(records)
    assert rule in {violation.rule for violation in judge(arrange(records)).violations}


def unasked(records):
    """Forget that anybody asked for an abort."""
    for record in [r for r in records if r.get("call") == "q"]:
        records.remove(record)


def replaced(records):
    unasked(records)
    ends_in("X", json.dumps({"type": "aborted", "reason": "shutdown"}))(records)


def ended(code):
    def mutate(records):
        unasked(records)
        ends_in("X", failed(code))(records)

    return mutate


EXCUSED = {
    "a node was killed": harmed(ended("producer_lost"), "kill a node", 12.0),
    "a node was frozen for long": harmed(ended("producer_lost"), "freeze a node", 7.0, 4.0),
    "a node was replaced": harmed(replaced, "replace a node", 12.0),
    "Redis was full": harmed(ended("store_full"), "fill Redis", 12.0),
    "Redis has lost an end, and an abort met that": harmed(aborted_late, "cut tails", 30.5),
    "Redis has lost all": harmed(gone, "flush Redis", 14.0),
    "its upstream was closed at the end of the lease": not_yet_closed(17.0),
}


@pytest.mark.parametrize("name", EXCUSED)
def test_what_a_fault_explains_is_no_violation(name):
    records = good()
    EXCUSED[name](records)
    assert judge(arrange(records)).violations == ()


def test_a_reset_that_the_client_sees_is_no_violation():
    records = good()
    lines = [content(place) for place in range(TOKENS)]
    told = [(E, line) for line in (*lines, DONE)]
    again = [record | {"sid": "S", "client": "a2"} for record in reading("a2", told[:3], at=10)]
    again = [record for record in again if record["kind"] != "closed"]
    again.append(rec(14, "notice", sid="S", client="a2", conn="a2/1", type="reset", facts={}))
    again.append(rec(13, "fault", name="cut tails", lasted=0.1))
    again += [record | {"sid": "S"} for record in reading("a2", told, at=15, conns=1)]
    assert judge(arrange(records + again)).violations == ()


def test_a_rule_without_anything_to_judge_is_reported():
    records = [record for record in good() if record["kind"] != "answered"]
    assert set(judge(arrange(records)).silent) == {"I6", "I6b", "I7", "I7b"}


def test_a_half_written_line_is_dropped(tmp_path):
    whole = json.dumps({"at": 1, "kind": "fault", "name": "x"}) + "\n"
    (tmp_path / "a.jsonl").write_text(whole + '{"at": 2, "ki')
    assert read(tmp_path) == [{"at": 1, "kind": "fault", "name": "x"}]


def test_what_a_client_lacks_and_what_it_has_twice_is_counted():
    records = good()
    drop("event", 2, client="a")(records)
    repeat("event", 4, client="b")(records)
    assert lost_and_doubled(arrange(records)) == (1, 1)


def test_a_silence_of_the_canary_is_told_with_the_fault_that_it_met():
    records = [
        record | {"seed": "canary-1"} if record.get("seed") == "x" else record for record in good()
    ]
    pick(records, "event", 2, client="c")["at"] = 13.5
    records += [
        rec(11.5, "fault", name="freeze Redis", lasted=1.0),
        rec(13.0, "fault", name="cut network", lasted=0.0),
        rec(15.0, "fault", name="partition", lasted=1.0),
    ]
    met = [(gap.at, gap.seconds, gap.faults) for gap in gaps(arrange(records))]
    assert met == [(12, 1.5, ("freeze Redis", "cut network"))]
