"""The dense prefix: whatever arrives, in whatever pieces, it is delivered once and in order."""

from hypothesis import given
from hypothesis import strategies as st

from server.events import Cursor
from server.session.log import Absorbed, Entry, Log


def entry(epoch: int, first: int, ordinal: int, *texts: str, final: bool = False) -> Entry:
    return Entry(epoch, first, ordinal, tuple(t.encode() for t in texts), final)


MARKER = entry(7, 1, 1)
AB = entry(7, 1, 2, "a", "b")
C = entry(7, 3, 3, "c")
END = entry(9, 4, 4, "end", final=True)


def test_entries_read_back_as_redis_returns_them():
    for one in (MARKER, AB, C, END, entry(7, 4, 4, "d", "z", final=True)):
        fields = [f if isinstance(f, bytes) else str(f).encode() for f in one.fields()]
        assert Entry.parse(str(one.id).encode(), fields) == one


def test_a_cursor_is_good_only_if_the_log_holds_that_very_event():
    log = Log([MARKER, AB, C, END])
    good = [Cursor(7, 0), Cursor(7, 1), Cursor(7, 3), Cursor(9, 4), Cursor(9, 0)]
    bad = [Cursor(7, 4), Cursor(9, 3), Cursor(9, 5), Cursor(8, 0), Cursor(0, 0), Cursor(8, 2)]
    assert [log.holds(c) for c in good] == [True] * 5
    assert [log.holds(c) for c in bad] == [False] * 6
    assert log.closed


def test_what_comes_is_known_a_hole_or_another_log():
    log = Log([MARKER, AB])
    assert log.absorb(AB) is Absorbed.KNOWN
    assert log.absorb(entry(7, 4, 4, "d")) is Absorbed.HOLE
    assert Log().absorb(AB) is Absorbed.HOLE  # its marker is missing, though no event is
    assert log.absorb(entry(8, 2, 3, "x")) is Absorbed.DIVERGED
    assert log.absorb(C) is Absorbed.GREW
    assert log.lines == [b"a", b"b", b"c"]


def test_nothing_follows_the_final_event():
    log = Log([MARKER, AB, C, END])
    assert log.absorb(entry(10, 5, 5, "more")) is Absorbed.DIVERGED
    assert log.head == 4


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_any_order_and_repetition_of_entries_gives_a_prefix(sizes, data):
    entries, first = [MARKER], 1
    for place, size in enumerate(sizes):
        texts = [str(seq) for seq in range(first, first + size)]
        entries.append(entry(7, first, place + 2, *texts))
        first += size
    whole = [line for one in entries for line in one.lines]
    log = Log()
    for place in data.draw(st.lists(st.integers(0, len(sizes)), max_size=30)):
        log.absorb(entries[place])
        assert log.lines == whole[: log.head]
