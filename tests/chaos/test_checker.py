"""A whole history passes; each of its mutants is caught, by the rule that it breaks."""

import copy
import json

import pytest

from tests.chaos.checker import judge
from tests.chaos.history import arrange, read
from tests.fake_upstream import token

E = 1000
TOKENS = 6


def rec(at, kind, **fields):
    return {"at": at, "kind": kind} | fields


def content(place, seed="s"):
    return json.dumps({"type": "content", "content": token(seed, place)})


DONE = json.dumps({"type": "done", "finish_reason": "stop"})
ABORTED = json.dumps({"type": "aborted", "reason": "user"})


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
    yield rec(0, "started", seed="s", tokens=TOKENS, key="k")
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
    yield rec(0, "started", seed="x", tokens=TOKENS, key=None)
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


def another_epoch(log):
    for entry in log[4:]:
        entry[0] = E + 5


def second_session_of_a_key(records):
    records.append(rec(1, "started", sid="T", seed="t", tokens=1, key="k"))


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
    "an abort that closed nothing": (change("upstream", seed="x", to={"closed_at": None}), "I7b"),
    "an abort that closed late": (change("upstream", seed="x", to={"closed_at": 14.0}), "I7b"),
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


def test_a_reset_that_the_client_sees_is_no_violation():
    records = good()
    lines = [content(place) for place in range(TOKENS)]
    told = [(E, line) for line in (*lines, DONE)]
    again = [record | {"sid": "S", "client": "a2"} for record in reading("a2", told[:3], at=10)]
    again = [record for record in again if record["kind"] != "closed"]
    again.append(rec(14, "notice", sid="S", client="a2", conn="a2/1", type="reset", facts={}))
    again.append(rec(13, "fault", name="cut tails"))
    again += [record | {"sid": "S"} for record in reading("a2", told, at=15, conns=1)]
    assert judge(arrange(records + again)).violations == ()


def test_a_rule_without_anything_to_judge_is_reported():
    records = [record for record in good() if record["kind"] != "answered"]
    assert set(judge(arrange(records)).silent) == {"I6", "I6b", "I7", "I7b"}


def test_a_half_written_line_is_dropped(tmp_path):
    whole = json.dumps({"at": 1, "kind": "fault", "name": "x"}) + "\n"
    (tmp_path / "a.jsonl").write_text(whole + '{"at": 2, "ki')
    assert read(tmp_path) == [{"at": 1, "kind": "fault", "name": "x"}]
