"""What the inspector's stream is made of: pure."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.counts import Counts
from server.events import Cursor
from server.session.feed import GONE, KEPT, SILENT, Crowd, Feed
from server.session.figures import Meter, Second, quantile, together
from server.session.roll import MOST_OF_ALL, Answer, Made, Seen, called

LATENCIES = len(Counts().commit.counts)


@pytest.mark.parametrize(
    ("counts", "share", "wanted"),
    [
        ([0, 0, 0], 0.5, None),
        ([4, 0, 0], 0.5, 500.0),
        ([4, 0, 0], 0.99, 990.0),
        ([2, 2, 0], 0.5, 1000.0),
        ([2, 2, 0], 0.75, 1500.0),
        ([0, 1, 0], 0.01, 1010.0),
        ([1, 0, 9], 0.5, 2000.0),
    ],
)
def test_a_quantile_of_buckets(counts, share, wanted):
    assert quantile((1.0, 2.0), counts, share) == wanted


def test_a_meter_says_what_came_since_it_was_read():
    counts = Counts()
    counts.events = 100
    meter = Meter(counts)
    counts.events = 150
    counts.commit.add(0.002)
    assert meter.read(2.0, 3, 4) == Second(25.0, 3, 4, (), (0, 1, *[0] * (LATENCIES - 2)), ())
    assert meter.read(1.0, 0, 0) == Second(0.0, 0, 0)


def test_the_seconds_of_nodes_add_up_and_their_quantiles_are_of_all_values():
    fast, slow = (0, 99, *[0] * (LATENCIES - 2)), (*[0] * (LATENCIES - 1), 1)
    told = together([Second(10.5, 1, 2, (), fast), Second(2.0, 1, 1, (), slow), Second(0.0, 0, 0)])
    assert (told["tokens"], told["running"], told["viewers"]) == (12.5, 2, 3)
    assert told["commit"] == {"p50": quantile((0.001, 0.0025), (0, 99, 0), 50 / 99), "p99": 2.5}
    assert told["first_token"] == {"p50": None, "p95": None}


def test_a_node_with_other_buckets_does_no_harm():
    assert together([Second(1.0, 0, 0, (1,)), Second(1.0, 0, 0, tuple([1] * 99))])["tokens"] == 2.0


def told(feed: Feed, seq: int) -> list[dict]:
    return [{"seq": seq, **msgspec.json.decode(line)} for seq, line in feed.since(seq)]


def test_only_the_newest_second_says_how_everything_stands():
    feed = Feed(7)
    for number in range(1, 4):
        feed.add(number * 1000, {"tokens": number}, {"nodes": [number]})
    assert told(feed, 0) == [
        {"seq": 1, "type": "second", "at": 1000, "tokens": 1},
        {"seq": 2, "type": "second", "at": 2000, "tokens": 2},
        {"seq": 3, "type": "second", "at": 3000, "tokens": 3, "nodes": [3]},
    ]
    assert told(feed, 3) == []
    assert [feed.holds(c) for c in (Cursor(7, 0), Cursor(7, 3), Cursor(7, 4), Cursor(8, 1))] == [
        True, True, False, False,
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, KEPT + 50), st.booleans()), max_size=6))
def test_no_reader_ever_counts_a_hole(visits):
    """Whoever comes when they like has each second, or an event that stands for it."""
    feed, seq = Feed(1), 0
    for grows, reads in visits:
        for _ in range(grows):
            feed.add(0, {}, {"nodes": []})
        if reads:
            events = told(feed, seq)
            firsts = [event["seq"] - event.get("n", 1) for event in events]
            assert firsts == [seq, *(event["seq"] for event in events[:-1])]
            assert len(events) <= KEPT
            assert ["nodes" in event for event in events] == [False] * (len(events) - 1) + [True]
            seq = events[-1]["seq"]
    assert seq <= feed.head


def answer(node: str, count: int, *tokens: float, seen: tuple[Seen, ...] = (), more: int = 0) -> Answer:
    seconds = tuple(Second(value, 0, 0) for value in tokens)
    return Answer(node, False, {"running": 1}, {"sse": 2}, 0, 0, 0.0, seen, more, count, seconds)


def tokens(seconds: list[dict]) -> list[float]:
    return [second["tokens"] for second in seconds]


def test_what_nodes_remember_is_put_together_by_age():
    crowd = Crowd()
    crowd.take(answer("a", 4, 1, 2, 3, 4), 0.0)
    crowd.take(answer("b", 2, 30, 40), 0.0)
    assert tokens([*crowd.past(), crowd.now()]) == [1, 2, 33, 44]


@pytest.mark.parametrize(
    ("later", "wanted"),
    [
        (answer("a", 3, 1, 2, 3), [1, 2, 3]),
        (answer("a", 4, 2, 3, 4), [1, 2, 3, 4]),
        (answer("a", 6, 4, 5, 6), [1, 2, 3, 4, 5, 6]),
        (answer("a", 9, 7, 8, 9), [7, 8, 9]),
    ],
    ids=["the same", "one more", "three more", "a hole"],
)
def test_each_second_of_a_node_is_taken_once(later, wanted):
    crowd = Crowd()
    crowd.take(answer("a", 3, 1, 2, 3), 0.0)
    crowd.take(later, 1.0)
    assert tokens([*crowd.past(), crowd.now()]) == wanted


def test_an_answer_that_is_overtaken_says_nothing():
    crowd = Crowd()
    crowd.take(answer("a", 2, 1, 2), 5.0)
    crowd.take(answer("a", 1, 1), 4.0)
    assert tokens([crowd.now()]) == [2]


def test_a_node_that_says_nothing_is_silent_and_then_no_more():
    crowd = Crowd()
    crowd.take(answer("quiet", 0), 0.0)
    states = []
    for now in (0.0, SILENT, SILENT + 0.1, GONE, GONE + 0.1):
        crowd.take(answer("here", 1, 5), now)
        crowd.forget(now)
        states.append({node["node"]: node["state"] for node in crowd.state(now)["nodes"]})
    here = {"here": "serving"}
    assert states == [
        here | {"quiet": "serving"}, here | {"quiet": "serving"}, here | {"quiet": "silent"},
        here | {"quiet": "silent"}, here,
    ]  # fmt: skip


def seen(id: str, **facts) -> Seen:
    chosen = {"status": "running", "epoch": 1, "seq": 5, "fence": "1-5", "created": 1} | facts
    return Seen(id, **chosen)


MADE = Made(lease=2.5, queue_bytes=7, held_bytes=0, waiting=False, lingering=False)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ({"a": seen("s", made=MADE, seq=9), "b": seen("s", seq=12)}, ("a", 9)),
        ({"a": seen("s", seq=9), "b": seen("s", seq=12)}, (None, 12)),
        ({"a": seen("s", made=MADE, seq=9), "b": seen("s", epoch=2, made=MADE, seq=4)}, ("b", 4)),
        ({"a": seen("s", made=MADE, seq=9), "b": seen("s", epoch=2, seq=10)}, (None, 10)),
    ],
    ids=["the producer", "nobody's producer", "an heir", "fenced out"],
)
def test_a_session_is_what_the_node_says_that_should_know(rows, wanted):
    (session,) = called(answer(node, 0, seen=(row,)) for node, row in rows.items())["sessions"]
    producer = session["producer"]
    assert (producer and producer["node"], session["seq"]) == wanted


def test_viewers_are_told_by_node_and_the_one_furthest_behind_of_all():
    rows = {
        "a": seen("s", viewers={"sse": 2}, behind=3),
        "b": seen("s", viewers={"sse": 1, "text": 1}, behind=8),
        "c": seen("s"),
    }
    (session,) = called(answer(node, 0, seen=(row,)) for node, row in rows.items())["sessions"]
    assert session["viewers"] == {"a": {"sse": 2}, "b": {"sse": 1, "text": 1}}
    assert session["behind"] == 8


def test_live_sessions_come_first_then_the_newest_and_the_rest_is_counted():
    old, new = seen("old", created=1), seen("new", created=9)
    over = seen("over", created=10, status="done")
    told = called([answer("a", 0, seen=(old, over), more=3), answer("b", 0, seen=(new,), more=4)])
    assert [session["id"] for session in told["sessions"]] == ["new", "old", "over"]
    assert told["more"] == 7
    many = called([answer("a", 0, seen=tuple(seen(str(i)) for i in range(MOST_OF_ALL + 2)))])
    assert (len(many["sessions"]), many["more"]) == (MOST_OF_ALL, 2)


def test_an_answer_comes_back_as_it_was():
    rows = seen("s", made=MADE, viewers={"sse": 1}), seen("t", gate=4, paused=True)
    said = answer("a", 1, 1.5, seen=rows)
    assert msgspec.json.decode(msgspec.json.encode(said), type=Answer) == said
