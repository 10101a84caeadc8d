"""What a reader is shown, whatever comes."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.client.items import Arrival, Frame, Paused, Reset, Resumed, Unknown
from server.client.reading import Reading
from server.client.reports import Refused
from server.client.sse import Blocks
from server.client.ws import frame_of
from server.events import Content, Cursor, Done, ToolCall


def content(epoch: int, seq: int, n: int = 1) -> Frame:
    body = {"type": "content", "content": f"t{seq}", "n": n}
    return Frame("", f"{epoch}-{seq}", json.dumps(body).encode())


def notice(kind: str, **facts) -> Frame:
    return Frame(kind, "", json.dumps(facts).encode())


def attached(seq: int = 0, status: str = "running", gate: int | None = None) -> Frame:
    facts = {"epoch": 1, "seq": seq, "status": status, "model": "m"}
    return notice("session", paused=gate is not None, gate=gate, **facts)


DONE = Frame("", "1-3", b'{"type":"done","finish_reason":"stop"}')
AT_2 = Cursor(1, 2)


@pytest.mark.parametrize(
    ("frame", "refused"),
    [
        (content(1, 4), "a gap"),
        (content(1, 2), "a duplicate"),
        (content(1, 1), "a duplicate"),
        (content(2, 1), "a duplicate"),
        (content(0, 3), "an old epoch"),
        (content(1, 4, n=3), "a duplicate"),
        (content(1, 5, n=2), "a gap"),
        (content(1, 3, n=0), "something unreadable"),
        (Frame("", "3", b"{}"), "something unreadable"),
        (Frame("", "1-3", b"[]"), "something unreadable"),
        (Frame("", "1-3", b'{"type":'), "something unreadable"),
        (Frame("reset", "", b"{}"), "something unreadable"),
    ],
)
def test_what_does_not_follow_is_refused_and_reported(frame, refused):
    reading = Reading("s", AT_2, merged=True)
    assert reading.take([frame, content(1, 3)]) == []
    got = Cursor.parse(frame.id) if frame.id.count("-") else None
    unreadable = refused == "something unreadable"
    assert reading.refused == Refused("s", refused, AT_2, None if unreadable else got)
    assert reading.cursor == AT_2


def test_what_follows_is_shown_until_the_end():
    reading = Reading("s", AT_2, merged=True)
    taken = reading.take([content(1, 3), content(2, 6, n=3), Frame("", "2-7", DONE.data), DONE])
    assert taken == [
        Arrival(Cursor(1, 3), Content("t3"), 1),
        Arrival(Cursor(2, 6), Content("t6"), 3),
        Arrival(Cursor(2, 7), Done()),
    ]
    assert reading.final == Done()


def test_a_reset_begins_anew():
    reading = Reading("s", AT_2, merged=False)
    taken = reading.take([notice("reset", reason="diverged", epoch=9), content(9, 1)])
    assert taken == [Arrival(None, Reset("diverged", 9)), Arrival(Cursor(9, 1), Content("t1"))]


def test_a_pause_is_told_once_however_often_the_server_says_so():
    reading = Reading("s", None, merged=False)
    frames = [
        attached(),
        notice("paused", gate=2),
        attached(gate=2),
        notice("moving"),
        notice("resumed"),
        attached(),
        attached(gate=5),
    ]
    assert [arrival.item for arrival in reading.take(frames)] == [Paused(2), Resumed(), Paused(5)]
    assert reading.paused


@pytest.mark.parametrize(
    ("frame", "at_end"),
    [
        (attached(2), False),
        (attached(3, "done"), False),
        (attached(2, "done"), True),
        (attached(2, "aborted"), True),
    ],
)
def test_the_end_is_known_by_the_notice(frame, at_end):
    reading = Reading("s", AT_2, merged=False)
    reading.take([frame])
    assert reading.at_end is at_end


def test_an_event_of_a_later_version_keeps_its_place():
    reading = Reading("s", AT_2, merged=False)
    taken = reading.take([Frame("", "1-3", b'{"type":"image","url":"x"}'), content(1, 4)])
    assert [arrival.item for arrival in taken] == [Unknown("image", {"url": "x"}), Content("t4")]


FRAMES = st.one_of(
    st.builds(content, st.integers(1, 3), st.integers(1, 8), st.integers(0, 3)),
    st.builds(attached, st.integers(0, 8), st.sampled_from(["running", "done"])),
    st.just(notice("reset", reason="r", epoch=2)),
    st.just(notice("resumed")),
    st.just(DONE),
    st.binary(max_size=5).map(lambda data: Frame("", "1-1", data)),
)


@given(st.lists(FRAMES, max_size=30))
def test_nothing_is_ever_shown_out_of_order(frames):
    reading, at = Reading("s", None, merged=True), 0
    for frame in frames:
        reading.refused = None
        for arrival in reading.take([frame]):
            if isinstance(arrival.item, Reset):
                at = 0
            elif arrival.id is not None:
                assert arrival.id.seq == at + arrival.n
                at = arrival.id.seq
    assert (reading.cursor or Cursor(0, 0)).seq == at


STREAM = (
    b": tokenwire\nretry: 1500\nevent: session\ndata: {}\n\n"
    b': ping\n: ping\nid: 1-1\ndata: {"type":"content","content":"a: b"}\n\n'
    b"event: later\ndata: {}\n\nretry: 3\n\n"
    b'id: 1-2\ndata: {"type":"done"}\n\ndata: [DONE]\n\n'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_an_event_stream_may_be_cut_anywhere(cuts):
    blocks, places = Blocks(), [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(places)]
    assert [frame for piece in pieces for frame in blocks.feed(piece)] == [
        Frame("session", "", b"{}"),
        Frame("", "1-1", b'{"type":"content","content":"a: b"}'),
        Frame("", "1-2", b'{"type":"done"}'),
    ]


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        (b'{"session":"s","id":"1-2","type":"x"}', Frame("", "1-2", b'{"type":"x"}')),
        (
            b'{"session":"s","type":"paused","gate":2}',
            Frame("paused", "", b'{"session":"s","type":"paused","gate":2}'),
        ),
        (b'{"type":"pong"}', None),
        (b'{"session":"s","type":"later"}', None),
    ],
)
def test_a_sockets_frame_is_an_event_or_a_notice(text, frame):
    assert frame_of(text) == frame


def test_a_tool_calls_own_id_is_not_the_events():
    text = b'{"session":"s","id":"1-1","type":"tool_call","index":0,"call_id":"call_1","name":"f"}'
    frame = frame_of(text)
    assert frame is not None
    (arrival,) = Reading("s", None, merged=False).take([frame])
    assert arrival == Arrival(Cursor(1, 1), ToolCall(0, "call_1", "f"))
