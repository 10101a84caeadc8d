"""A fold gives the same bytes wherever a client left and on whichever node it reads on."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from server.events import (
    Aborted,
    AbortReason,
    Bytes,
    Content,
    Done,
    Error,
    Event,
    Reasoning,
    ToolCall,
    encode,
)
from server.session.log import Entry, Log
from server.session.tail import Tail
from server.session.viewer import Ending
from server.wire.fold import SLICE, Folded, sse
from server.wire.openai_chat import Chat
from server.wire.openai_responses import Responses
from server.wire.text import Text

SID = "s" * 22
CHAT = Chat(SID, "m", 7, include_usage=True)
RESPONSES = Responses(SID, "m", 7)

_words = st.text(max_size=4)
_pieces = st.one_of(
    st.builds(Content, _words),
    st.builds(Reasoning, _words),
    st.builds(
        ToolCall, st.integers(0, 2), st.none() | st.just("call_x"), st.none() | st.just("f"), _words
    ),
    st.builds(Bytes, st.binary(max_size=3)),
)
_finals = st.one_of(
    st.builds(Done, st.sampled_from(["stop", "length", "tool_calls"]), st.none() | st.just({"a": 1})),
    st.builds(Aborted, st.sampled_from(AbortReason)),
    st.builds(Error, _words, _words, st.booleans()),
)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """A log in some entries, the last of which may be final."""
    log, epoch = Log([Entry(5, 1, 1)]), 5
    for batch in draw(st.lists(st.lists(_pieces, min_size=1, max_size=4), max_size=5)):
        log.absorb(Entry(epoch, log.head + 1, len(log.entries) + 1, tuple(map(encode, batch))))
        epoch += draw(st.integers(0, 1))
    if draw(st.booleans()):
        final = (encode(draw(_finals)),)
        log.absorb(Entry(epoch, log.head + 1, len(log.entries) + 1, final, final=True))
    return log


def whole(dialect, log: Log) -> bytes:
    encoding = dialect.encoding(SID)
    _, opening = encoding.place(log, log.head, 0)
    return opening + encoding.slice(log, 0, log.head)


@given(logs(), st.data())
def test_cut_at_any_event_and_resumed_elsewhere_the_bytes_are_the_same(log, data):
    for dialect in (CHAT, RESPONSES):
        one, other = dialect.encoding(SID), dialect.encoding(SID)
        cut = data.draw(st.integers(0, log.head))
        _, opening = one.place(log, log.head, 0)
        parted = opening + one.slice(log, 0, cut) + other.slice(log, cut, log.head)
        assert parted == whole(dialect, log)


@given(logs(), st.data())
def test_cut_after_any_part_and_resumed_by_its_number_the_bytes_are_the_same(log, data):
    everything = whole(RESPONSES, log)
    blocks = everything.split(b"\n\n")[:-1]
    held = data.draw(st.integers(0, len(blocks)))
    encoding = RESPONSES.encoding(SID)
    seq, rest = encoding.place(log, log.head, held)
    got = b"".join(block + b"\n\n" for block in blocks[:held])
    assert got + rest + encoding.slice(log, seq, log.head) == everything
    assert all(block.endswith(b'"sequence_number":%d}' % n) for n, block in enumerate(blocks))
    assert encoding.place(log, log.head, len(blocks) + 1) is None


@given(logs(), st.data())
def test_folding_as_the_log_grows_gives_what_folding_it_at_once_gives(log, data):
    for dialect in (CHAT, RESPONSES):
        encoding, grown = dialect.encoding(SID), b""
        for seq in range(log.head):
            grown += encoding.slice(log, seq, seq + 1)
        assert grown == dialect.encoding(SID).slice(log, 0, log.head)


class Counting:
    """Two parts before the log and, for each event, as many as its text has letters."""

    def begin(self) -> tuple[int, list[bytes]]:
        return 0, [b"a", b"b"]

    def step(self, state: int, event: Event) -> tuple[int, list[bytes]]:
        assert isinstance(event, Content)
        return state + 1, [b"%d%d" % (state, place) for place in range(len(event.content))]

    def broken(self) -> list[bytes]:
        return [b"broken"]


LOG = Log(
    [Entry(7, 1, 1), Entry(7, 1, 2, tuple(map(encode, (Content("xy"), Content(""), Content("z")))))]
)


def test_an_events_id_is_with_its_last_part_and_one_without_parts_has_none():
    encoding = Folded(Counting(), sse)
    assert encoding.slice(LOG, 0, 3) == b"data: 00\n\nid: 7-1\ndata: 01\n\nid: 7-3\ndata: 20\n\n"


def test_a_place_is_never_beyond_the_limit():
    encoding = Folded(Counting(), sse)
    assert encoding.place(LOG, 1, 2) == (0, b"")
    assert encoding.place(LOG, 1, 3) == (1, b"id: 7-1\ndata: 01\n\n")
    assert encoding.place(LOG, 1, 4) == (1, b"")
    assert encoding.place(LOG, 1, 5) is None
    assert encoding.slice(LOG, 1, 3) == b"id: 7-3\ndata: 20\n\n"
    assert encoding.place(LOG, 1, 5) is None


def test_a_long_log_is_folded_in_slices():
    encoding, log = Folded(Counting(), sse), Log([Entry(7, 1, 1)])
    log.absorb(Entry(7, 1, 2, (encode(Content("x")),) * (2 * SLICE)))
    reached = [encoding.advance(log, 1), encoding.advance(log, 2 * SLICE)]
    assert (reached, encoding.state) == ([True, False], SLICE + 1)
    assert (encoding.advance(log, 2 * SLICE), encoding.state) == (True, 2 * SLICE)


def test_a_reset_breaks_the_stream_and_other_notices_are_not_said():
    encoding = Folded(Counting(), sse)
    assert encoding.notice("reset", {"reason": "diverged", "epoch": 1}) == b"data: broken\n\n"
    assert encoding.notice("paused", {"gate": 1}) == b""
    assert encoding.restarts is False


class Kept:
    """A sink that keeps what it is given."""

    full = False

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        """Be ready."""


def entry(epoch: int, text: str) -> Entry:
    return Entry(epoch, 1, 2, (encode(Content(text)),))


@pytest.mark.parametrize("dialect", [Text(), CHAT, RESPONSES], ids=lambda d: type(d).__name__)
async def test_who_cannot_be_told_to_begin_anew_is_cut_off_if_he_holds_what_is_gone(dialect):
    tail = Tail(SID, lambda _: None)
    tail.absorb((Entry(5, 1, 1), entry(5, "old")))
    reader, newcomer = (tail.join(dialect, Kept(), 1.0) for _ in range(2))
    reader.push()
    held = reader.sink.data
    assert b"old" in held
    tail.replace(Log([Entry(9, 1, 1), entry(9, "new")]))
    assert reader.ended.result() is Ending.LOST
    broken = reader.sink.data.removeprefix(held)
    assert (b'"reset"' in broken) == (dialect != Text())
    assert b"new" not in broken
    assert not newcomer.ended.done()
    assert b"new" in newcomer.sink.data
    assert b"reset" not in newcomer.sink.data
