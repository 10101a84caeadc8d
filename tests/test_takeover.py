"""What becomes of an answer whose node died: its end, its rest, or another one, as its model says."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from server.events import Content, Done, Reasoning, ToolCall, encode
from server.session.heirs import HEIRS, so_far
from server.upstream import Request
from server.upstream.demo import demo
from tests import clients
from tests.clients import Item, Socket, collect, is_event, seqs, start, text_of
from tests.fake_upstream import expected_text
from tests.processes import demo_text, serve, spawn_upstream

LEASE = 1.0
TABLES = """
[models.whole]
upstream = "demo"
takeover = "continue"
[models.anew]
upstream = "demo"
takeover = "restart"
[models.served]
base_url = "{upstream}/v1"
takeover = "continue"
"""

GOES_ON = {
    "nothing yet": ([], ""),
    "text": ([Content("a"), Content("b")], "ab"),
    "thought, then text": ([Reasoning("x"), Content("b")], "b"),
    "only thought": ([Reasoning("x")], None),
    "a tool's call": ([Content("a"), ToolCall(0, "1", "f", "{")], None),
}


@pytest.mark.parametrize("name", GOES_ON)
def test_what_an_upstream_can_go_on_from(name):
    events, text = GOES_ON[name]
    assert so_far([encode(event) for event in events]) == text


async def test_the_demo_goes_on_behind_what_there_is():
    whole = [e async for e in demo()(Request("demo", [], {"tokens": 30, "rate": 0}))]
    for cut in range(30):
        said = "".join(e.content for e in whole[:cut])
        request = Request("demo", [], {"tokens": 30, "rate": 0}, said)
        rest = [e async for e in demo()(request)]
        assert rest[:-1] == whole[cut:-1]
        assert isinstance(rest[-1], Done)


@pytest.fixture
async def upstream():
    process, url = await spawn_upstream()
    yield url
    process.kill()
    await process.wait()


@pytest.fixture
async def make_process(redis_server, tmp_path, upstream):
    nodes = []
    config = tmp_path / "tokenwire.toml"
    config.write_text(TABLES.format(upstream=upstream))

    async def make():
        node = await serve(redis_server.url, config=config, lease=LEASE, linger=1, drain=0.2)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        await node.end()


class Watch:
    """A reader that keeps events and notices, and drops what a reset revokes."""

    def __init__(self, items: AsyncIterator[Item]) -> None:
        self.events: list[Item] = []
        self.resets: list[Item] = []
        self.done = asyncio.create_task(self._read(items))

    async def _read(self, items: AsyncIterator[Item]) -> None:
        async for item in items:
            if is_event(item):
                self.events.append(item)
            elif item["type"] == "reset":
                self.resets.append(item["facts"])
                self.events.clear()

    async def reach(self, count: int) -> None:
        while len(self.events) < count:
            await asyncio.sleep(0.005)


def epochs(events: list[Item]) -> list[int]:
    return sorted({int(e["id"].partition("-")[0]) for e in events})


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_answer_goes_on_behind_what_there_was(make_process, http, kill):
    doomed, other = await make_process(), await make_process()
    sid = await start(http, doomed, model="whole", prompt="k", rate=100, tokens=300)
    watches = [Watch(way(http, other, sid)) for way in (clients.sse, clients.ws)]
    await watches[0].reach(50)
    doomed.signal(kill)
    for watch in watches:
        await asyncio.wait_for(watch.done, 15)
        assert (watch.events[-1]["type"], watch.resets) == ("done", [])
        assert seqs(watch.events) == list(range(1, 302))
        assert text_of(watch.events) == await demo_text("k", 300)
        assert len(epochs(watch.events)) == 2
    if kill is signal.SIGSTOP:
        doomed.signal(signal.SIGCONT)
        assert await collect(clients.sse(http, doomed, sid)) == watches[0].events


async def test_an_upstream_is_asked_to_go_on(make_process, http, upstream):
    doomed, other = await make_process(), await make_process()
    body = {"model": "served", "prompt": "k", "rate": 100, "tokens": 300, "seed": "go"}
    sid = await start(http, doomed, **body)
    watch = Watch(clients.sse(http, other, sid))
    await watch.reach(50)
    doomed.signal(signal.SIGKILL)
    await asyncio.wait_for(watch.done, 15)
    assert watch.events[-1]["type"] == "done"
    assert text_of(watch.events) == expected_text("go", 300)


async def test_without_anybody_watching_it_goes_on_too(make_process, http):
    doomed, other = await make_process(), await make_process()
    sid = await start(http, doomed, model="whole", prompt="k", rate=50, tokens=200)
    first = await collect(clients.sse(http, doomed, sid), 20)
    doomed.signal(signal.SIGKILL)
    while True:
        async with http.get(other.url(f"/v1/sessions/{sid}")) as response:
            if (await response.json())["status"] != "running":
                break
        await asyncio.sleep(0.05)
    events = await collect(clients.sse(http, other, sid))
    assert events[:20] == first
    assert text_of(events) == await demo_text("k", 200)


async def test_an_answer_begins_anew_with_a_visible_reset(make_process, http):
    doomed, *others = [await make_process() for _ in range(3)]
    sid = await start(http, doomed, model="anew", prompt="k", rate=100, tokens=200)
    watches = [Watch(clients.sse(http, other, sid)) for other in others]  # the heir's, and not the heir's
    for watch in watches:
        await watch.reach(50)
    doomed.signal(signal.SIGKILL)
    for watch in watches:
        await asyncio.wait_for(watch.done, 15)
        assert [reset["reason"] for reset in watch.resets] == ["restarted"]
        assert seqs(watch.events) == list(range(1, 202))
        assert text_of(watch.events) == await demo_text("k", 200)
        assert len(epochs(watch.events)) == 1


async def test_an_heir_has_an_heir_but_not_for_ever(make_process, http):
    node = await make_process()
    sid = await start(http, node, model="whole", prompt="k", rate=50, tokens=5000)
    events = []
    for turn in range(1, HEIRS + 2):
        while len(epochs(events)) < turn:
            events += await collect(clients.sse(http, node, sid, events[-1]["id"] if events else None), 5)
        successor = await make_process()
        node.signal(signal.SIGKILL)
        node = successor
    events += await asyncio.wait_for(collect(clients.sse(http, node, sid, events[-1]["id"])), 10)
    assert events[-1]["code"] == "producer_lost"
    # The last epoch is that of the end.
    assert len(epochs(events)) == HEIRS + 2
    assert seqs(events) == list(range(1, len(events) + 1))
    assert text_of(events) == (await demo_text("k", 5000))[: len(text_of(events))]


async def test_a_pause_and_an_abort_reach_an_heir(make_process, http):
    doomed, other = await make_process(), await make_process()
    sid = await start(http, doomed, model="whole", prompt="k", rate=50, tokens=5000)
    async with http.ws_connect(other.url(f"/v1/sessions/{sid}/ws")) as ws:
        socket = Socket(ws)
        while len(socket.events()) < 20:
            await socket.next()
        doomed.signal(signal.SIGKILL)
        while len(epochs(socket.events())) < 2:
            await socket.next()
        reply = await socket.ask("pause", session=sid)
        gate = reply["gate"]
        assert seqs(socket.events())[-1] <= gate
        await socket.ask("resume", session=sid)
        while seqs(socket.events())[-1] <= gate:
            await socket.next()
        reply = await socket.ask("abort", session=sid)
        assert (reply["status"], reply["upstream_closed"]) == ("aborted", True)


async def test_a_session_that_is_paused_begins_anew_behind_its_gate(make_process, http):
    doomed, other = await make_process(), await make_process()
    sid = await start(http, doomed, model="anew", prompt="k", rate=100, tokens=100)
    watch = Watch(clients.sse(http, other, sid))
    await watch.reach(10)
    async with http.post(other.url(f"/v1/sessions/{sid}/pause")) as response:
        assert (await response.json())["paused"]
    doomed.signal(signal.SIGKILL)
    while not watch.resets:
        await asyncio.sleep(0.01)
    while True:
        async with http.get(other.url(f"/v1/sessions/{sid}")) as response:
            if (await response.json())["seq"] > 50:
                break
    assert watch.events == []
    async with http.post(other.url(f"/v1/sessions/{sid}/resume")) as response:
        assert not (await response.json())["paused"]
    await asyncio.wait_for(watch.done, 10)
    assert text_of(watch.events) == await demo_text("k", 100)


async def test_without_a_policy_it_ends(make_process, http):
    doomed, other = await make_process(), await make_process()
    sid = await start(http, doomed, model="demo", prompt="k", rate=100, tokens=5000)
    watch = Watch(clients.sse(http, other, sid))
    await watch.reach(10)
    doomed.signal(signal.SIGKILL)
    await asyncio.wait_for(watch.done, 10)
    assert watch.events[-1]["code"] == "producer_lost"
