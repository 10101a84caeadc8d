"""Another program as the upstream: its bodies, its retries, its silence."""

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import (
    BadEvent,
    PushConflict,
    SessionClosed,
    UnsupportedMediaType,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamStall,
)
from server.events import Bytes, Content, Done, Error, Event, Reasoning, ToolCall, encode, merge
from server.upstream import Head
from server.upstream.push import ProducerLost, Push
from server.upstream.pushed_bodies import items_of
from server.upstream.sse_parser import MAX_EVENT
from tests.upstream.runs import Tray, request
from tests.waiting import HANG

NDJSON, SSE, TEXT = "application/x-ndjson", "text/event-stream", "text/plain"
WORDS = ("a", "é🙂", "\n\nevent: done\ndata: {}", "“")
SAID = [Content(word) for word in WORDS]
LINES = b"".join(encode(event) + b"\n" for event in SAID)
DONE = encode(Done("length")) + b"\n"


class Run:
    """A push session's upstream, running, with a tray as its feed."""

    def __init__(self, stall=HANG, first_token=HANG, grace=HANG):
        self.tray = Tray()
        self.push = Push(stall, first_token, grace)
        self.task = asyncio.create_task(self.push(request(), self.tray))

    def open(self, kind=NDJSON, number=None, last=False):
        return self.push.open(Head(kind, number, last), self.tray)

    def send(self, *pieces, kind=NDJSON, number=None, last=False):
        """Send a whole body, as a node would; return whether it was taken."""
        body = self.open(kind, number, last)
        if body is None:
            return False
        for piece in pieces:
            body.take(piece)
        if not body.stopped.done():
            body.end()
        body.leave(lost=False)
        return True

    async def end(self):
        """Return the final event; raise what the upstream raises."""
        return await asyncio.wait_for(self.task, HANG)


@pytest.fixture
async def run():
    runs = []

    def make(**waits):
        runs.append(Run(**waits))
        return runs[-1]

    yield make
    for each in runs:
        each.task.cancel()
        await asyncio.gather(each.task, return_exceptions=True)


async def test_bodies_one_after_the_other_are_one_stream(run):
    one = run()
    one.send(LINES[:30], LINES[30:])
    one.send(LINES, DONE)
    assert (await one.end(), one.tray.events) == (Done("length"), SAID * 2)


def chunk(text=None, finish=None):
    return orjson.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})


CALL = ToolCall(0, "t", "f", "{}")
BODIES = {
    "lines": (NDJSON, LINES + DONE, SAID, Done("length")),
    "no last line end": (NDJSON, LINES + DONE.strip(), SAID, Done("length")),
    "after the end": (NDJSON, DONE + LINES, [], Done("length")),
    "every kind": (
        "application/jsonl",
        b"".join(encode(e) + b"\n" for e in (Reasoning("hm"), CALL, Bytes(b"\0"), Done())),
        [Reasoning("hm"), CALL, Bytes(b"\0")], Done(),
    ),
    "an error of its own": (
        NDJSON, encode(Error("mine", "my words", retryable=False)), [], Error("mine", "my words", False),
    ),
    "events": (
        SSE, b": hi\n\nevent: x\ndata: " + LINES.split()[0] + b"\n\ndata: [DONE]\n\n", SAID[:1], Done(),
    ),
    "no last blank line": (SSE, b"data: " + DONE, [], Done("length")),
    "openai": (
        SSE, b"data: " + chunk("a") + b"\n\ndata: " + chunk(None, "tool_calls") + b"\n\ndata: [DONE]\n\n",
        [Content("a")], Done("tool_calls"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_means_the_same_at_every_two_way_split(run, name):
    kind, body, events, final = BODIES[name]
    for at in range(len(body) + 1):
        one = run()
        one.send(body[:at], body[at:], kind=kind)
        assert (await one.end(), one.tray.events) == (final, events)


@given(st.text(min_size=1), st.data())
def test_text_is_the_same_wherever_it_is_cut(text, data):
    items, body = items_of("text/plain; charset=utf-8"), text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert "".join([*(i for piece in pieces for i in items.feed(piece)), *items.end()]) == text


@given(st.lists(st.sampled_from([LINES, DONE, b"\n", b"\r\n", b"{"]), max_size=6), st.data())
def test_lines_are_the_same_wherever_they_are_cut(parts, data):
    def read(*pieces):
        items = items_of(NDJSON)
        return [*(item for piece in pieces for item in items.feed(piece)), *items.end()]

    body = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert read(*pieces) == read(body)


@pytest.mark.parametrize(
    ("kind", "body", "events"),
    [
        (TEXT, b"Hello \xc3\xa9", [Content("Hello "), Content("é")]),
        ("audio/mpeg", b"\0\1", [Bytes(b"\0", "audio/mpeg"), Bytes(b"\1")]),
    ],
)
async def test_text_and_bytes_end_where_their_sender_says(run, kind, body, events):
    one = run()
    one.send(body[:-1], body[-1:], kind=kind, last=True)
    assert (await one.end(), one.tray.events) == (Done(), events)


async def test_the_end_of_a_body_may_be_the_end_of_what_was_pushed_before(run):
    one = run()
    one.send(b"Hello", kind=TEXT)
    one.send(chunk("!", "length"), last=True)
    assert (await one.end(), one.tray.events) == (Done("length"), [Content("Hello"), Content("!")])


def forms():
    for name, (kind, body, events, _) in BODIES.items():
        yield pytest.param(kind, body, events, id=name)
    yield pytest.param(TEXT, "".join(WORDS).encode(), [Content("".join(WORDS))], id="text")


@pytest.mark.parametrize(("kind", "body", "events"), [*forms()])
async def test_a_numbered_body_that_broke_off_anywhere_is_sent_anew_and_not_taken_twice(
    run, kind, body, events
):
    for at in range(len(body) + 1):
        one = run()
        broken = one.open(kind, number=7)
        broken.take(body[:at])
        broken.leave(lost=True)
        one.send(body, kind=kind, number=7, last=True) if not one.push.ended else None
        assert not one.send(body, kind=kind, number=7)
        await one.end()
        assert [m.event for m in merge(one.tray.events)] == [m.event for m in merge(events)]


async def test_a_body_may_break_off_more_than_once(run):
    one = run()
    for at in (50, 20, 70):
        broken = one.open(number=1)
        broken.take(LINES[:at])
        broken.leave(lost=True)
    one.send(LINES, number=1)
    assert one.tray.events == SAID


async def test_numbers_go_on_in_a_row_from_any_one(run):
    one = run()
    assert [one.send(LINES, number=n) for n in (0, 0, 1, 0, 2, 1)] == [
        True,
        False,
        True,
        False,
        True,
        False,
    ]
    with pytest.raises(PushConflict, match="number 3, not 5"):
        one.open(number=5)
    assert one.tray.events == SAID * 3


async def test_the_next_number_has_to_wait_for_the_one_before(run):
    one = run()
    one.open(number=1).leave(lost=True)
    with pytest.raises(PushConflict, match="number 1, not 2"):
        one.open(number=2)


async def test_a_second_body_at_a_time_is_refused_unless_it_is_the_same_one_anew(run):
    one = run()
    first = one.open(number=1)
    first.take(LINES[:40])
    with pytest.raises(PushConflict):
        one.open()
    again = one.open(number=1)
    assert isinstance(first.stopped.result(), PushConflict)
    first.leave(lost=True)  # nobody minds any more
    again.take(LINES + DONE)
    again.leave(lost=False)
    assert (await one.end(), one.tray.events) == (Done("length"), SAID)


BAD = [
    b"nonsense",
    b"[]",
    b"5",
    b'{"x":1}',
    b'{"type":"session"}',
    b'{"type":"content"}',
    b'{"type":"content","content":5}',
    b'{"type":"aborted","reason":"user"}',
    b'{"choices":5}',
    b'{"type":[]}',
    b'{"type":"done","usage":{"a":18446744073709551616}}',
    b"[" * 3000 + b"]" * 3000,
    b"\xff",
    b"x" * (MAX_EVENT + 1),
]


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_item_changes_nothing_and_a_better_body_goes_on_from_there(run, bad):
    one = run()
    body = one.open(number=1)
    with pytest.raises(BadEvent, match="After 4 good ones"):
        body.take(LINES + bad + b"\n" + LINES)
    body.leave(lost=False)
    assert (one.tray.events, one.push.ended) == (SAID, False)
    one.send(LINES + DONE, number=1)
    assert (await one.end(), one.tray.events) == (Done("length"), SAID)


async def test_a_bad_last_line_is_found_at_the_end(run):
    body = run().open()
    body.take(b'{"type":')
    with pytest.raises(BadEvent):
        body.end()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_a_form_is_no_stream(run, kind):
    with pytest.raises(UnsupportedMediaType):
        run().open(kind)


async def test_text_of_another_encoding_is_refused(run):
    with pytest.raises(BadEvent):
        run().send(b"\xff", kind=TEXT)
    for kind in ("text/plain; charset=x-none", "text/plain; charset=zlib", "image/\udcff"):
        with pytest.raises(UnsupportedMediaType):
            run().open(kind)


async def test_an_error_in_somebody_elses_words_ends_the_session_in_ours(run):
    one = run()
    body = one.open()
    body.take(LINES + b'{"error":{"message":"sk-1","code":400}}\n')
    assert body.stopped.result() is None
    with pytest.raises(UpstreamRejected) as raised:
        await one.end()
    assert ("sk-1" in str(raised.value), one.tray.events) == (False, SAID)


async def test_whoever_breaks_off_and_does_not_come_back_is_lost(run):
    one = run(grace=0.1)
    one.open().leave(lost=True)
    back = one.open()
    await asyncio.sleep(0.2)  # longer than the grace, and it is here again
    assert not one.task.done()
    back.leave(lost=True)
    left = asyncio.get_running_loop().time()
    with pytest.raises(ProducerLost):
        await one.end()
    assert asyncio.get_running_loop().time() - left > 0.09
    with pytest.raises(SessionClosed):
        one.open()


async def test_whoever_leaves_after_the_end_is_not_lost(run):
    one = run(grace=0.05)
    body = one.open(number=1)
    body.take(LINES)
    body.end()
    body.leave(lost=True)
    await asyncio.sleep(0.1)  # longer than the grace
    assert (one.task.done(), one.send(LINES, number=1)) == (False, False)


@pytest.mark.parametrize(("began", "waits"), [(True, {"stall": 0.1}), (False, {"first_token": 0.1})])
async def test_silence_is_a_stall(run, began, waits):
    one = run(**waits)
    body = one.open()
    if began:
        body.take(LINES)
    with pytest.raises(UpstreamStall):
        await one.end()
    assert isinstance(body.stopped.result(), SessionClosed)


async def test_it_is_no_silence_while_the_session_is_full(run):
    one = run(stall=0.1)
    one.send(LINES)
    one.tray.open.clear()
    await asyncio.sleep(0.3)
    assert not one.task.done()
    one.send(DONE)
    assert await one.end() == Done("length")


class Narrow(Tray):
    """A feed with a limit."""

    def push(self, event: Event) -> None:
        if len(self.events) == 2:
            raise OverflowError
        super().push(event)


async def test_a_limit_ends_the_session_from_within():
    push, narrow = Push(5, 5, 5), Narrow()
    waiting = asyncio.create_task(push(request(), narrow))
    body = push.open(Head(NDJSON), narrow)
    body.take(LINES)
    assert isinstance(body.stopped.result(), SessionClosed)
    with pytest.raises(OverflowError):
        await waiting
    assert narrow.events == SAID[:2]


async def test_a_session_that_is_ended_lets_its_sender_know(run):
    one = run()
    body = one.open()
    await asyncio.sleep(0)
    one.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one.task
    assert isinstance(body.stopped.result(), SessionClosed)
    with pytest.raises(SessionClosed):
        one.open()


def test_the_errors_are_told_apart():
    assert issubclass(ProducerLost, UpstreamFailed)
    assert (ProducerLost.code, ProducerLost.retryable) == ("producer_lost", True)
