"""Servers that send what they must not, or nothing: the client shows none of it, and says so."""

import asyncio

import pytest

from server import Client
from server.client import BrokenStream, Lost, Opened, Refused, Unreachable
from server.errors import Forbidden, Gone, TokenwireError
from server.events import Cursor
from tests.client.liar import DONE, event, lying, says, status
from tests.waiting import until

SID = "s" * 32
REST = says(event(3, "c"), DONE)


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
