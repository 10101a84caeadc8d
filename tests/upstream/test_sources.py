"""The python upstream takes whatever can be streamed; the demo always says the same."""

import asyncio
import time
from contextlib import aclosing

import pytest
from aiohttp import web

from server.errors import UpstreamFailed, UpstreamRejected, UpstreamStall
from server.events import Bytes, Content, Done, ToolCall
from server.upstream import Request
from server.upstream.demo import demo
from server.upstream.python import python


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


async def test_a_text_is_one_piece():
    assert await run(python(lambda request: request.prompt)) == [Content("hi"), Done()]


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


async def test_what_a_source_raises_is_raised():
    async def failing(request):
        yield "a"
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await run(python(failing))


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


async def test_a_response_is_proxied_as_text_or_bytes(http, aiohttp_server):
    async def serve(asked: web.Request) -> web.Response:
        kind = asked.query["kind"]
        return web.Response(body="é🙂".encode(), headers={"Content-Type": kind})

    app = web.Application()
    app.router.add_get("/", serve)
    server = await aiohttp_server(app)

    def proxy(kind):
        return python(lambda request: http.get(server.make_url("/"), params={"kind": kind}))

    assert await run(proxy("text/plain")) == [Content("é🙂"), Done()]
    assert await run(proxy("audio/mpeg")) == [Bytes("é🙂".encode()), Done()]


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
