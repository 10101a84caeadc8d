"""Servers that send what they must not, or nothing: the client shows none of it, and says so."""

import asyncio

import pytest

from server import Client
from server.client import BrokenStream, Closed, Lost, Opened, Refused, Unreachable
from server.errors import Forbidden, Gone, TokenwireError
from server.events import Cursor
from tests.client.liar import DONE, event, lying, page, says, sends, status
from tests.waiting import HANG, until

SID = "s" * 32
REST = says(event(3, "c"), DONE)
DEEP = b'{"type":"later","in":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def reports_of(kind, reports):
    return [report for report in reports if isinstance(report, kind)]


async def read(url, **how):
    reports = []
    settings = {"silence": how.pop("silence", 5.0), "patience": how.pop("patience", 5.0)}
    async with Client(url, tell=reports.append, **settings) as client:
        stream = client.connect(SID, **{"transport": "sse"} | how)
        return await stream.text(), reports


@pytest.mark.parametrize(
    ("wrong", "what", "got"),
    [
        (event(4, "d"), "a gap", "7-4"),
        (event(1, "a"), "a duplicate", "7-1"),
        (event(3, "c", epoch=6), "an old epoch", "6-3"),
    ],
)
async def test_one_wrong_event_is_refused_and_read_again(wrong, what, got):
    async with lying(says(event(1, "a"), event(2, "b"), wrong, event(9, "x")), REST) as liar:
        text, reports = await read(liar.url)
    assert text == "abc"
    assert reports_of(Refused, reports) == [Refused(SID, what, Cursor(7, 2), Cursor.parse(got))]
    assert [cursor for _, _, cursor in liar.asked] == [None, "7-2"]


def framed(seq, fields):
    """Return a socket's text frame of an event."""
    return f'{{"session":"{SID}","id":"7-{seq}",{fields}}}'.encode()


FRAMES = [framed(at, f'"type":"content","content":"{text}"') for at, text in enumerate("abc", 1)]
WS_REST = sends(*FRAMES[1:], framed(4, '"type":"done","finish_reason":"stop"'))


@pytest.mark.parametrize(
    ("transport", "wrong"),
    [
        ("sse", b"id: \xff\ndata: {}\n\n"),
        ("sse", b'id: 7-2\ndata: {"type":"content","content":"\xff"}\n\n'),
        ("sse", b"id: 7-2\ndata: " + DEEP + b"\n\n"),
        ("sse", b"event: reset\ndata: <html>\n\n"),
        ("ws", b"no JSON"),
        ("ws", b"\xff"),
        ("ws", b"[]"),
        ("ws", b'{"type":"\xff"}'),
        ("ws", DEEP),
        ("ws", b'{"session":"s","type":"reset"}'),
    ],
)
async def test_what_cannot_be_read_is_refused_and_read_again(transport, wrong):
    answers = {
        "sse": [says(event(1, "a"), wrong), says(event(2, "b"), event(3, "c"), DONE)],
        "ws": [sends(FRAMES[0], wrong), WS_REST],
    }
    async with lying(*answers[transport]) as liar:
        text, reports = await read(liar.url, transport=transport)
    assert text == "abc"
    assert reports_of(Refused, reports) == [Refused(SID, "something unreadable", Cursor(7, 1), None)]


async def test_a_socket_that_says_nothing_readable_is_given_up():
    async with lying(sends(b"no JSON")) as liar:
        with pytest.raises(BrokenStream, match="something unreadable"):
            await read(liar.url, transport="ws")


async def test_a_server_that_insists_is_given_up():
    reports = []
    gap = says(event(3, "c"), DONE)
    async with (
        lying(says(event(1, "a"), event(3, "c")), gap) as liar,
        Client(liar.url, tell=reports.append) as client,
    ):
        stream = client.connect(SID, transport="sse")
        with pytest.raises(BrokenStream, match="a gap: 7-3 after 7-1"):
            await stream.text()
    assert len(reports_of(Refused, reports)) == 3
    assert stream.after == Cursor(7, 1)


async def test_refusals_at_different_places_do_not_add_up():
    answers = [says(event(1, "a"), event(1, "a")), says(event(2, "b"), event(2, "b"))]
    async with lying(*answers, says(event(4, "d")), REST) as liar:
        text, reports = await read(liar.url)
    assert text == "abc"
    assert len(reports_of(Refused, reports)) == 3


async def test_a_silent_connection_is_given_up_and_replaced():
    async with lying(says(event(1, "a"), event(2, "b"), hangs=True), REST) as liar:
        text, reports = await read(liar.url, silence=0.2)
    assert text == "abc"
    assert [report.why for report in reports_of(Lost, reports)] == ["TimeoutError"]


async def test_a_connection_that_breaks_off_or_is_refused_for_now_is_tried_again():
    answers = [says(event(1, "a")), status(503), status(502), says(event(2, "b")), says(), REST]
    async with lying(*answers) as liar:
        text, _ = await read(liar.url)
    assert text == "abc"
    assert [cursor for _, _, cursor in liar.asked] == [None, *["7-1"] * 3, *["7-2"] * 2]


@pytest.mark.parametrize(("code", "kind"), [(403, Forbidden), (410, Gone), (302, TokenwireError)])
async def test_a_refusal_for_good_is_raised(code, kind):
    async with lying(status(code)) as liar:
        with pytest.raises(kind):
            await read(liar.url, transport="auto")
    assert len(liar.asked) == 2  # auto asked over both transports


async def test_what_the_server_asks_for_is_waited_for():
    async with lying(
        status(429, **{"Retry-After": "1"}), says(event(1, "a"), event(2, "b")), REST
    ) as liar:
        _, reports = await read(liar.url)
    assert reports_of(Lost, reports)[0].wait >= 1.0


async def test_patience_ends():
    async with lying(status(503)) as liar:
        with pytest.raises(Unreachable):
            await read(liar.url, patience=0.5)


async def test_auto_goes_where_it_can_and_at_once():
    async with lying(status(400), says(event(1, "a"), event(2, "b")), REST) as liar:
        text, reports = await read(liar.url, transport="auto")
    assert text == "abc"
    assert [report.transport for report in reports_of(Opened, reports)] == ["sse", "sse"]
    assert reports_of(Lost, reports)[0].wait == 0.0
    assert [path.rpartition("/")[2] for _, path, _ in liar.asked] == ["ws", "events", "events"]


async def test_auto_leaves_a_transport_on_which_nothing_comes():
    answers = [status(502), says(hangs=True), status(502), says(event(1, "a"), DONE)]
    async with lying(*answers) as liar, Client(liar.url, silence=0.2) as client:
        stream = client.connect(SID)
        assert await anext(stream)
        await stream.aclose()
    assert [path.rpartition("/")[2] for _, path, _ in liar.asked] == ["ws", "events", "ws", "events"]


async def test_a_call_is_asked_again_under_the_same_key_until_it_is_answered():
    async with lying(status(503), status(502), status(400)) as liar, Client(liar.url) as client:
        with pytest.raises(TokenwireError):
            await client.start("x")
    assert len(liar.keys) == 3
    assert len(set(liar.keys)) == 1


async def test_a_page_is_no_answer_to_a_call():
    reports = []
    async with (
        lying(page("<html>"), page(b'{"id":"\xff"}'), page(f'{{"id":"{SID}"}}')) as liar,
        Client(liar.url, tell=reports.append) as client,
    ):
        assert (await client.start("x")).sid == SID
    assert len(reports_of(Lost, reports)) == 2
    assert len(set(liar.keys)) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (page("<html>"), Unreachable),
        (page("{}"), TokenwireError),
        (status(204), TokenwireError),
        (page(b'{"error":{"code":"\xff"}}', 403), Forbidden),
        (page(b'{"error":' + DEEP, 403), Forbidden),
        (status(403, **{"Retry-After": "\u00b2"}), Forbidden),
    ],
)
async def test_a_start_that_is_answered_by_a_stranger_ends_in_an_error_of_ours(answer, kind):
    async with lying(answer) as liar, Client(liar.url, patience=0.5) as client:
        with pytest.raises(kind):
            await client.start("x")


LATER = status(429, **{"Retry-After": "50"})
WAITS = {
    "over sse": (says(event(1, "a"), hangs=True), lambda client: read_of(client, "sse")),
    "over ws": (sends(FRAMES[0], hangs=True), lambda client: read_of(client, "ws")),
    "between two tries": (LATER, lambda client: read_of(client, "sse")),
    "for an answer": (says(hangs=True), lambda client: client.session(SID)),
    "between two questions": (LATER, lambda client: client.session(SID)),
}


def read_of(client, transport):
    return client.connect(SID, transport=transport).text()


@pytest.mark.parametrize(("answer", "work"), WAITS.values(), ids=WAITS)
async def test_a_client_that_is_closed_ends_what_waits_for_it(answer, work):
    async with lying(answer) as liar, Client(liar.url) as client:
        waiting = asyncio.create_task(work(client))
        await until(lambda: liar.asked)
        await client.aclose()
        with pytest.raises(Closed):
            async with asyncio.timeout(HANG):
                await waiting
        await client.aclose()
        with pytest.raises(Closed):
            await work(client)


async def test_a_text_of_a_stream_that_is_closed_is_not_the_whole_of_it():
    async with lying(says(event(1, "a"), hangs=True)) as liar, Client(liar.url) as client:
        stream = client.connect(SID, transport="sse")
        reading = asyncio.create_task(stream.text())
        await until(lambda: stream.after is not None)
        await stream.aclose()
        with pytest.raises(Closed):
            await reading
        assert [item async for item in stream] == []


async def test_headers_go_with_every_request():
    headers = {"Authorization": "Bearer k"}
    async with lying(status(400)) as liar, Client(liar.url, headers=headers) as client:
        for transport in ("ws", "sse"):
            with pytest.raises(TokenwireError):
                await anext(client.connect(SID, transport=transport))
        with pytest.raises(TokenwireError):
            await client.start("x")
    assert len(liar.asked) == 3
    assert liar.credentials == {"Bearer k"}


async def test_a_cancelled_read_loses_nothing():
    answer = says(event(1, "a"), event(2, "b"), hangs=True)
    async with lying(answer) as liar, Client(liar.url) as client:
        stream, items = client.connect(SID, transport="sse"), []

        async def read():
            async for item in stream:
                items.append(item.content)

        for _ in range(2):
            reading = asyncio.create_task(read())
            await until(lambda: len(items) == 2)
            await asyncio.sleep(0)  # now it waits for more
            reading.cancel()
            await asyncio.wait([reading])
        await stream.aclose()
    assert items == ["a", "b"]
    assert len(liar.asked) == 1
