"""Counting, adding up and judging."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ops.loadtest.plan import parse
from server.ops.loadtest.report import page
from server.ops.loadtest.screen import line
from server.ops.loadtest.spread import LEAST, Spread
from server.ops.loadtest.tally import MEASURES, Tally, merged
from server.ops.loadtest.verdict import own_share, rows, verdict

DURATIONS = st.lists(st.floats(1e-6, 1000), min_size=1, max_size=50)
PLAN = parse(["http://127.0.0.1:8080", "--sessions", "2", "--viewers", "3"]).plan


def spread_of(seconds):
    spread = Spread()
    for one in seconds:
        spread.add(one)
    return spread


@given(DURATIONS, st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_right_within_its_step(seconds, share):
    exact = sorted(seconds)[max(0, -int(-share * len(seconds) // 1) - 1)]
    wanted = max(exact, min(LEAST, max(seconds)))
    assert spread_of(seconds).quantile(share) == pytest.approx(wanted, rel=0.0201)


@given(DURATIONS, DURATIONS)
def test_several_spreads_add_up(one, two):
    spread = spread_of(one)
    spread.merge(spread_of(two))
    assert spread == spread_of(one + two)
    assert spread.curve()[-1][1] == 1.0


def test_nothing_has_no_quantile():
    assert Spread().quantile(0.5) is None


def tally_of(whole=6, over=True, cpu=0.2, lag=0.001, found=()):
    tally = Tally(over=over, cpu={"process 1": [cpu] * 10, "process 2": [0.1] * 10})
    tally.add("whole", whole)
    tally.add("tokens", 1200)
    tally.spread("lag").add(lag, 10)
    for what in found:
        tally.find(what, "somewhere")
    return tally


def test_tallies_add_up_and_survive_the_wire():
    one, two = tally_of(found=["a gap"] * 30), tally_of(found=["a gap", "reset"], over=False)
    one.second(3.9).tokens, two.second(3.1).tokens = 5, 7
    total = merged(msgspec.json.decode(msgspec.json.encode(t), type=Tally) for t in (one, two))
    assert total.count("whole") == 12
    assert total.findings["a gap"].count == 31
    assert len(total.findings["a gap"].examples) == 20
    assert (total.wrong, total.over, total.seconds[3].tokens) == (32, False, 12)
    assert total.spread("lag").count == 20


@pytest.mark.parametrize(
    ("tally", "complete", "words"),
    [
        (tally_of(), True, "complete: 6 viewers of 2 sessions read 1,200 tokens, each once and in order"),
        (tally_of(whole=5), False, "incomplete: 5 of 6 viewers got everything"),
        (tally_of(over=False), False, "incomplete: 6 of 6 viewers got everything"),
        (Tally(over=True), False, "incomplete: 0 of 6 viewers got everything"),
        (
            tally_of(found=["a gap", "a gap", "reset"]),
            False,
            "incomplete: 6 of 6 viewers got everything; found: a gap (2), reset (1)",
        ),
    ],
)
def test_only_what_is_whole_is_complete(tally, complete, words):
    judged = verdict(PLAN, tally, cores=2)
    assert (judged.complete, judged.words, judged.bottleneck) == (complete, words, None)


@pytest.mark.parametrize(
    ("tally", "says"),
    [
        (tally_of(cpu=0.97), "itself the bottleneck: its processes were at their limit for 50%"),
        (tally_of(lag=0.2), "did not get the processor when it needed it (200 ms late)"),
    ],
)
def test_a_load_test_that_is_too_slow_says_so(tally, says):
    judged = verdict(PLAN, tally, cores=2)
    assert judged.complete
    assert says in str(judged.bottleneck)


def test_the_load_tests_own_share():
    assert own_share(tally_of(cpu=0.7), cores=2) == pytest.approx(0.4)


def test_every_row_has_a_meaning():
    tally = Tally()
    for name in MEASURES:
        tally.spread(name).add(0.25)
    assert [(row.name, row.count, row.most) for row in rows(tally)] == [(n, 1, 250.0) for n in MEASURES]
    assert all(set(row.quantiles.values()) == {250.0} for row in rows(tally))


def test_the_line_on_the_screen():
    tally = tally_of(found=["reset"])
    tally.second(1).tokens = 40
    tally.second(2).tokens = 3
    assert "tokens 1,200 (40/s)   1 findings" in line(PLAN, tally, 2.5)


def test_the_page_quotes_what_it_was_told():
    tally = tally_of()
    tally.find("wrong token", "<script>")
    text = page(PLAN, tally, verdict(PLAN, tally, 2), {"delays": b"\x89PNG"})
    assert "<script>" not in text
    assert 'src="data:image/png;base64,iVBORw=="' in text
