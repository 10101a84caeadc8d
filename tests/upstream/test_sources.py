"""The python upstream takes whatever can be streamed; the demo always says the same."""

import asyncio
import threading
import time
from contextlib import aclosing

import pytest
from aiohttp import web
from multidict import CIMultiDict

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamStall,
    UpstreamTruncated,
)
from server.events import Bytes, Content, Done, ToolCall
from server.upstream import Request
from server.upstream.demo import demo
from server.upstream.python import python
from server.upstream.threads import ROOM
from tests.fake_upstream import expected_text, fake_app, stats_of


def request(prompt="hi", **parameters):
    return Request("m", [{"role": "user", "content": prompt}], parameters)


async def run(upstream, asked=None):
    async with aclosing(upstream(asked or request())) as events:
        return [event async for event in events]


async def _generator(request):
    yield "a"
    yield "b"


async def _answer(request):
    return ["a", "b"]


async def _callback(request, stream):
    await stream.send("a")
    await stream.wait(1)
    await stream.send("b")
    await stream.close()


async def _events(request):
    yield {"type": "content", "content": "a"}
    yield Content("b")
    yield Done("stop")
    yield Content("never")


SOURCES = {
    "generator": _generator,
    "awaitable": _answer,
    "callback": _callback,
    "events": _events,
    "list": ["a", "b"],
    "iterator": lambda request: iter(["a", "b"]),
    "generator_function": lambda request: (c for c in "ab"),
}


@pytest.mark.parametrize("name", SOURCES)
async def test_each_kind_of_source(name):
    assert await run(python(SOURCES[name])) == [Content("a"), Content("b"), Done()]


async def test_each_kind_of_item():
    call = ToolCall(0, "c", "n", "{}")
    items = ["é", b"\x00", call, {"any": [1]}, 7]
    expected = [Content("é"), Bytes(b"\x00"), call, Content('{"any":[1]}'), Content("7"), Done()]
    assert await run(python(lambda request: items)) == expected


ONE = [("hi", [Content("hi")]), (bytearray(b"a"), [Bytes(b"a")]), (7, [Content("7")]), (None, [])]


@pytest.mark.parametrize(("given", "events"), ONE)
async def test_what_is_no_row_is_one_piece(given, events):
    assert await run(python(lambda request: given)) == [*events, Done()]


async def test_a_long_list_leaves_room_for_others():
    turns = asyncio.create_task(asyncio.sleep(0))
    await run(python(["a"] * 1000))
    assert turns.done()


async def test_a_blocking_iterator_stops_nobody_else():
    def slow(request):
        for piece in "ab":
            time.sleep(0.1)
            yield piece

    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert await run(python(slow)) == [Content("a"), Content("b"), Done()]
    ticking.cancel()
    assert ticks > 10


async def _failing(request):
    yield "a"
    raise TimeoutError("password")


def _failing_in_its_thread(request):
    yield "a"
    raise OSError("password")


async def _failing_callback(request, stream):
    await stream.send("a")
    raise ValueError("password")


async def _cancelled_within(request):
    yield "a"
    raise asyncio.CancelledError


FAILING = [_failing, _failing_in_its_thread, _failing_callback, _cancelled_within]


@pytest.mark.parametrize("source", FAILING)
async def test_what_a_source_raises_is_logged_and_told_without_its_words(source, caplog):
    events = python(source)(request())
    assert await anext(events) == Content("a")
    with pytest.raises(UpstreamFailed) as failed:
        await anext(events)
    assert (failed.value.code, "password" in str(failed.value)) == ("upstream_error", False)
    assert "a source raised" in caplog.text


async def test_a_typed_failure_of_a_source_is_kept():
    def refuse(request):
        raise UpstreamRejected("No poems today.")

    with pytest.raises(UpstreamRejected, match=r"No poems today\."):
        await run(python(refuse))


async def test_closing_closes_the_source():
    closed = asyncio.Event()

    async def endless(request, stream):
        try:
            while True:
                await stream.send("a")
        finally:
            closed.set()

    events = python(endless)(request())
    assert await anext(events) == Content("a")
    await events.aclose()
    assert closed.is_set()


async def test_a_callback_behind_a_reader_that_left_is_cancelled():
    stopped = asyncio.Event()

    async def endless(request, stream):
        try:
            while True:
                await stream.send("a")
        finally:
            await stream.close()
            stopped.set()

    events = python(endless)(request())
    await anext(events)
    await asyncio.sleep(0)  # now it is as far ahead as it may be
    await asyncio.wait_for(events.aclose(), 1)
    assert stopped.is_set()


async def test_nothing_is_sent_after_the_end():
    async def talkative(request, stream):
        await stream.send("a")
        await stream.close()
        with pytest.raises(RuntimeError):
            await stream.send("b")

    assert await run(python(talkative)) == [Content("a"), Done()]


async def test_a_generator_is_closed_in_its_own_thread():
    threads = []

    def endless(request):
        try:
            while True:
                threads.append(threading.get_ident())
                yield "a"
        finally:
            threads.append(threading.get_ident())

    events = python(endless)(request())
    await anext(events)
    await events.aclose()
    drawn = len(threads)
    assert len(set(threads)) == 1 < drawn <= ROOM + 3
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_a_source_that_blocks_holds_nobody(how):
    go_on = threading.Event()

    def blocking(request):
        yield "a"
        go_on.wait()

    events = python(blocking)(request())
    await anext(events)
    began = time.monotonic()
    if how == "cancel":
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    await events.aclose()
    go_on.set()
    assert time.monotonic() - began < 1


@pytest.fixture
async def served(http, aiohttp_server):
    """Return a source that proxies a page of a given type, body and status."""

    async def serve(asked: web.Request) -> web.Response:
        body, status = bytes.fromhex(asked.query["body"]), int(asked.query["status"])
        return web.Response(body=body, status=status, headers={"Content-Type": asked.query["kind"]})

    app = fake_app()
    app.router.add_get("/", serve)
    server = await aiohttp_server(app)

    def page(kind, body, status=200):
        query = {"kind": kind, "body": body.hex(), "status": str(status)}
        return python(lambda request: http.get(server.make_url("/"), params=query))

    page.chat = python(
        lambda request: http.post(server.make_url("/v1/chat/completions"), json=request.parameters)
    )
    page.stats = stats_of(app)
    return page


RELAYED = [
    ("text/plain", "é🙂".encode(), Content("é🙂")),
    ("text/html; charset=latin-1", b"\xe9", Content("é")),
    ("application/json", b"[1]", Content("[1]")),
    ("audio/mpeg", b"\xff\x00", Bytes(b"\xff\x00")),
]


@pytest.mark.parametrize(("kind", "body", "event"), RELAYED)
async def test_a_response_is_relayed_as_text_or_bytes(served, kind, body, event):
    assert await run(served(kind, body)) == [event, Done()]


async def test_another_ai_endpoint_is_relayed_as_its_events(served):
    events = await run(served.chat, request(seed="p", tokens=5))
    assert "".join(e.content for e in events[:-1]) == expected_text("p", 5)
    assert events[-1] == Done("stop", {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8})
    with pytest.raises(UpstreamTruncated):
        await run(served.chat, request(script="truncated"))


async def test_leaving_a_relayed_response_closes_its_connection(served):
    events = served.chat(request(tokens=10_000, rate=100))
    await anext(events)
    await events.aclose()
    while not served.stats["closed"]:
        await asyncio.sleep(0.005)
    assert served.stats["closed"][0]["closed_by_peer"]


@pytest.mark.parametrize(
    ("kind", "body", "status", "error"),
    [
        ("text/plain", b"no key", 401, UpstreamRejected),
        ("text/plain", b"later", 503, UpstreamRateLimited),
        ("text/plain", "é".encode()[:1], 200, UpstreamInvalid),
        ("text/plain; charset=klingon", b"a", 200, UpstreamInvalid),
    ],
)
async def test_a_response_that_is_no_answer_fails(served, kind, body, status, error):
    with pytest.raises(error):
        await run(served(kind, body, status))


async def test_a_response_of_another_client_is_relayed_and_closed():
    class Response:
        headers = CIMultiDict({"content-type": "text/plain"})
        status_code = 200
        closed = False

        async def aiter_bytes(self):
            for byte in "é🙂".encode():
                yield bytes([byte])

        async def aclose(self):
            self.closed = True

    response = Response()
    assert await run(python(response)) == [Content("é"), Content("🙂"), Done()]
    assert response.closed


async def test_the_demo_says_the_same_for_the_same_seed():
    asked = {"tokens": 40, "rate": 0, "seed": 3, "reasoning": True, "tool_call": True}
    first, second = [await run(demo(), request("x", **asked)) for _ in range(2)]
    assert first == second
    assert first != await run(demo(), request("x", **asked | {"seed": 4}))
    assert isinstance(first[-1], Done)


async def test_the_demo_keeps_its_rate():
    began = time.monotonic()
    await run(demo(), request(tokens=50, rate=500))
    assert 0.09 <= time.monotonic() - began < 1


@pytest.mark.parametrize("bad", [{"rate": -1}, {"rate": "x"}, {"tokens": 1e9}, {"fail": "maybe"}])
async def test_the_demo_refuses_nonsense(bad):
    with pytest.raises(UpstreamRejected):
        await run(demo(), request(**bad))


@pytest.mark.parametrize(("how", "kind"), [("error", UpstreamFailed), ("stall", UpstreamStall)])
async def test_the_demo_fails_on_demand(how, kind):
    with pytest.raises(kind):
        await run(demo(), request(tokens=2, rate=0, fail=how))
    assert len(await run(demo(), request(tokens=2, rate=0, fail="truncated"))) == 2
