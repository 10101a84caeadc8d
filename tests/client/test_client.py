"""The client against real nodes: both transports, cut and resumed, steered, moved, and in plain code."""

import asyncio
import signal
import threading

import pytest

from server import Client, SyncClient
from server.client import (
    Closed,
    Opened,
    Paused,
    Refused,
    Reset,
    Resumed,
    Stream,
    SyncStream,
    Unfinished,
)  # fmt: skip
from server.errors import BadCursor, Gone, NotFound, UnknownModel
from server.events import Aborted, AbortReason, Bytes, Content, Cursor, Done, Error, ToolCall
from tests import processes, sources
from tests.waiting import HANG

TRANSPORTS = ["sse", "ws", "auto"]


@pytest.fixture
async def node(make_node, stepped):
    return await make_node({"paced": sources.paced, "stepped": stepped})


@pytest.fixture
async def reports():
    return []


@pytest.fixture
async def client(node, reports):
    async with Client(node.url(""), tell=reports.append) as client:
        yield client


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_whole_answer(client, transport):
    stream = await client.start("whole", transport=transport, tokens=300)
    assert await stream.text() == sources.text("whole", 300)
    assert stream.final == Done(usage={"completion_tokens": 300})
    assert stream.after.seq == 301
    assert stream.transport == {"auto": "ws"}.get(transport, transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_cut_wire_costs_nothing(client, reports, stepped, transport):
    stream, said, pieces = await client.start("cut", model="stepped", transport=transport), [], []
    for at in range(6):
        for place in range(20):
            said.append(f"{at}/{place} ")
            stepped.step(said[-1])
        for _ in range(2):  # what is left of these may have come before the cut
            pieces += [(await anext(stream)).content for _ in range(10)]
            await stream.cut()
    stepped.finish()
    assert [item async for item in stream] == [Done()]
    assert pieces == said
    assert [report for report in reports if isinstance(report, Refused)] == []
    assert len([report for report in reports if isinstance(report, Opened)]) > 6


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_second_stream_goes_on_from_the_cursor(client, transport):
    stream = await client.start("on", transport=transport, tokens=50)
    for _ in range(20):
        await anext(stream)
    after = str(stream.after)
    await stream.aclose()
    rest = client.connect(stream.sid, after=after, transport=transport)
    assert await rest.text() == "".join(sources.token("on", place) for place in range(20, 50))
    at_end = client.connect(stream.sid, after=rest.after, transport=transport)
    assert [item async for item in at_end] == []


async def test_a_batch_has_all_that_came_with_its_ids(client):
    stream = await client.start("b", transport="sse", tokens=40)
    await anext(stream)
    arrivals = []
    while batch := await stream.batch():
        arrivals += batch
        assert stream.after == batch[-1].id
    assert [arrival.id.seq for arrival in arrivals] == list(range(2, 42))
    assert {arrival.n for arrival in arrivals} == {1}


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_merged_events_leave_nothing_out(client, transport):
    whole = await client.start("m", tokens=200)
    assert await whole.text() == sources.text("m", 200)
    stream, arrivals = client.connect(whole.sid, transport=transport, merged=True), []
    while batch := await stream.batch():
        arrivals += batch
    assert max(arrival.n for arrival in arrivals) > 1
    assert sum(arrival.n for arrival in arrivals) == 201
    texts = [arrival.item.content for arrival in arrivals[:-1]]
    assert "".join(texts) == sources.text("m", 200)
    late = client.connect(whole.sid, after=arrivals[0].id, transport=transport, merged=True)
    assert await late.text() == "".join(texts[1:])


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_pause_holds_and_resume_goes_on(client, stepped, transport):
    stream = await client.start("p", model="stepped", transport=transport)
    stepped.step("one")
    assert await anext(stream) == Content("one")
    answer = await stream.pause()
    assert (answer["paused"], answer["gate"]) == (True, 1)
    stepped.step("two")
    assert await anext(stream) == Paused(1)
    assert stream.paused
    while (await client.session(stream.sid))["seq"] < 2:
        await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await anext(stream)
    await stream.cut()  # who comes back is not told twice
    await stream.resume()
    assert [await anext(stream), await anext(stream)] == [Resumed(), Content("two")]
    stepped.finish()
    assert await anext(stream) == Done()


async def test_abort_ends_the_stream_and_says_that_the_upstream_is_closed(client, stepped):
    stream = await client.start("a", model="stepped")
    stepped.step("one")
    await anext(stream)
    answer = await stream.abort()
    assert (answer["status"], answer["upstream_closed"]) == ("aborted", True)
    assert stepped.closed.is_set()
    with pytest.raises(Unfinished) as caught:
        await stream.text()
    assert caught.value.final == Aborted(AbortReason.USER)


async def test_the_same_key_starts_one_session(client):
    one = await client.start("k", key="mine", tokens=5)
    two = await client.start("k", key="mine", tokens=5)
    assert one.sid == two.sid


async def test_messages_options_and_parameters_reach_the_server(client, node):
    messages = [{"role": "user", "content": "hello"}]
    stream = await client.start(messages, options={"conversation": "c"}, tokens=3)
    assert await stream.text() == sources.text("hello", 3)
    assert (await client.session(stream.sid))["conversation"] == "c"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_tool_calls_deltas_keep_their_ids(client, transport):
    stream = await client.start("t", model="demo", transport=transport, tool_call=True, rate=0, tokens=2)
    calls = [item async for item in stream if isinstance(item, ToolCall)]
    assert calls[0] == ToolCall(0, "call_demo", "search", "")
    assert {call.id for call in calls[1:]} == {None}


async def test_bytes_come_as_bytes(make_node):
    async def blob(request):
        yield Bytes(b"\x00\xff")
        yield Done()

    node = await make_node({"blob": blob})
    async with Client(node.url("")) as client:
        stream = await client.start("x")
        assert [item async for item in stream] == [Bytes(b"\x00\xff"), Done()]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_the_server_refuses_is_raised_as_what_it_is(client, transport):
    stranger = client.connect("x" * 32, transport=transport)
    # A handshake has no body: over a socket alone the status is all there is.
    with pytest.raises((NotFound, UnknownModel)):
        await anext(stranger)
    stream = await client.start("d", transport=transport, tokens=2000, rate=100)
    await anext(stream)
    await client.delete(stream.sid)
    with pytest.raises((Gone, Unfinished)):
        await stream.text()
    with pytest.raises(UnknownModel):
        await client.start("x", model="nobody")
    with pytest.raises(BadCursor):
        client.connect(stream.sid, after="7")
    with pytest.raises(ValueError, match="transport"):
        client.connect(stream.sid, transport="pigeon")


async def test_a_cursor_that_the_log_does_not_hold_is_a_reset(client):
    stream = await client.start("r", tokens=3)
    await stream.text()
    strange = client.connect(stream.sid, after=Cursor(1, 2))
    items = [item async for item in strange]
    assert isinstance(items[0], Reset)
    assert items[1:] == [*[Content(sources.token("r", n)) for n in range(3)], stream.final]
    again = client.connect(stream.sid, after=Cursor(1, 2))
    assert await again.text() == sources.text("r", 3)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_node_that_dies_is_outlived(make_process, transport):
    first, second = [await make_process(lease=0.5) for _ in range(2)]
    async with Client(first.url("")) as starter, Client(second.url("")) as client:
        stream = await starter.start("x", tokens=5000, rate=200)
        mine = client.connect(stream.sid, transport=transport)
        for _ in range(20):
            await anext(mine)
        first.signal(signal.SIGKILL)
        final = [item async for item in mine][-1]
        assert isinstance(final, Error)
        assert final.code == "producer_lost"
    await second.end()
    # The same address answers again: who was cut off comes back by itself.
    async with Client(second.url("")) as client:
        waiting = client.connect(stream.sid, transport=transport)
        coming = asyncio.create_task(anext(waiting))
        await make_process(port=second.port)
        assert isinstance(await coming, Content)


def test_the_sync_client_in_plain_code(make_server_thread):
    with SyncClient(make_server_thread) as client:
        with client.start("plain", model="demo", tokens=30, rate=300) as stream:
            pieces = [item.content for item in stream if isinstance(item, Content)]
            assert isinstance(stream.final, Done)
        assert len(pieces) == 30
        again = client.connect(stream.sid)
        assert again.text() == "".join(pieces) == client.session(stream.sid)["text"]
        assert again.after == stream.after
        long = client.start("long", model="demo", tokens=1000, rate=50)
        next(long)
        stopper = threading.Thread(target=long.abort)
        stopper.start()
        assert list(long)[-1] == Aborted(AbortReason.USER)
        stopper.join()
        client.delete(long.sid)
        with pytest.raises(Gone):
            client.connect(long.sid, transport="sse").text()


def test_a_sync_stream_is_steered_cut_and_read_in_batches(make_server_thread):
    with SyncClient(make_server_thread) as client:
        stream = client.start("b", model="demo", tokens=40, rate=300, transport="sse")
        items = [arrival.item for arrival in stream.batch()]
        client.pause(stream.sid)
        items += iter(stream.__next__, Paused(client.session(stream.sid)["gate"]))
        assert (stream.transport, stream.paused) == ("sse", True)
        stream.cut()
        assert not client.resume(stream.sid)["paused"]
        while batch := stream.batch():
            items += [arrival.item for arrival in batch]
        assert (items.pop(), items.pop(-2).__class__) == (stream.final, Content)
        assert client.abort(stream.sid)["status"] == "done"


def test_a_sync_client_does_not_wait_for_itself(make_server_thread):
    told = []

    def tell(_report):
        for use in (client.close, lambda: client.session("s")):
            with pytest.raises(RuntimeError, match="in its own `tell`") as refused:
                use()
            told.append(refused)

    with SyncClient(make_server_thread, tell=tell) as client:
        assert client.start("t", model="demo", tokens=3, rate=0).text()
    assert len(told) == 2


def test_a_sync_client_that_is_closed_ends_what_waits_for_it(make_server_thread):
    client, ends = SyncClient(make_server_thread), []
    stream = client.start("w", model="demo", tokens=50, rate=50)
    client.pause(stream.sid)

    def read():
        try:
            for _ in stream:
                pass
        except Closed as closed:
            ends.append(closed)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while not stream.paused:
        pass  # until it was told, and waits
    client.close()
    reader.join(HANG)
    assert [type(end) for end in ends] == [Closed]
    client.close()
    stream.close()
    for late in (stream.text, stream.pause, lambda: client.session(stream.sid)):
        with pytest.raises(Closed):
            late()


@pytest.mark.parametrize(("plain", "sync"), [(Client, SyncClient), (Stream, SyncStream)])
def test_the_sync_client_has_all_that_the_other_has(plain, sync):
    names = {name for name in vars(plain) if not name.startswith("_")}
    assert (names - {"aclose"}) | {"close"} <= vars(sync).keys()


@pytest.fixture
def make_server_thread(redis_server):
    """A node that runs as a process, for a test without a loop of its own."""
    with asyncio.Runner() as runner:
        node = runner.run(processes.serve(redis_server.url, lease=0.5, linger=0))
        yield node.url("")
        runner.run(node.end())


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_a_client_that_closes_takes_its_streams_along(node, transport):
    async with Client(node.url("")) as client:
        stream = await client.start("left", transport=transport, tokens=100, rate=10)
        await anext(stream)
    # A connection that was forgotten would be a warning here, and a viewer there.
    while (node.node and await node.node.session(stream.sid))["viewers"]:
        await asyncio.sleep(0.01)


async def test_a_session_is_steered_without_a_stream(client, stepped):
    stream = await client.start("q", model="stepped")
    stepped.step("one")
    await anext(stream)
    assert (await client.pause(stream.sid))["paused"]
    assert not (await client.resume(stream.sid))["paused"]
    assert (await client.abort(stream.sid))["status"] == "aborted"
