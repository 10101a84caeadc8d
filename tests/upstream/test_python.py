"""The python upstream takes whatever can be streamed, and closes it."""

import asyncio
import threading

import pytest

from server.errors import (
    UpstreamFailed,
    UpstreamRejected,
)
from server.events import Bytes, Content, Done, ToolCall
from server.upstream.python import python
from server.upstream.threads import ROOM
from tests.upstream.runs import request, run
from tests.waiting import HANG


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


class _Rows:
    """An async iterable whose iterator has no `aclose`."""

    def __init__(self, request):
        self._rows = ["a", "b"]

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self._rows:
            raise StopAsyncIteration
        return self._rows.pop(0)


SOURCES = {
    "generator": _generator,
    "async_iterable": _Rows,
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
    turned = threading.Event()

    def slow(request):
        for piece in "ab":
            assert turned.wait(HANG)
            turned.clear()
            yield piece

    async def turn():
        while True:
            await asyncio.sleep(0.005)
            turned.set()

    turning = asyncio.create_task(turn())
    assert await run(python(slow)) == [Content("a"), Content("b"), Done()]
    turning.cancel()


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
    await asyncio.wait_for(events.aclose(), HANG)
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
    try:
        async with asyncio.timeout(HANG):
            if how == "cancel":
                waiting = asyncio.create_task(anext(events))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
            await events.aclose()
    finally:
        go_on.set()
