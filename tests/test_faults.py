"""What breaks, breaks for real: processes are killed and frozen, Redis loses everything."""

import asyncio
import signal
import time
from functools import partial

import aiohttp
import pytest

from server.errors import StoreUnavailable
from tests import clients, sources
from tests.clients import Socket, collect, control, is_event, seqs, session, start, text_of
from tests.processes import demo_text
from tests.waiting import HANG, until

LEASE = 1.0


@pytest.fixture
def make_process(make_process):
    return partial(make_process, lease=LEASE, linger=1, drain=0.2)


async def _follow(stream, events):
    async for item in stream:
        if is_event(item):
            events.append(item)


async def _keep(stream, items):
    async for item in stream:
        items.append(item)


@pytest.mark.alone
async def test_a_killed_producer_ends_in_one_typed_event_within_its_lease(make_process, http):
    doomed, other = await make_process(), await make_process()
    sids = [await start(http, doomed, prompt="k", rate=100, tokens=5000) for _ in range(5)]
    watched, events = sids[0], []
    reading = asyncio.create_task(_follow(clients.sse(http, other, watched), events))
    await until(lambda: len(events) > 20)
    doomed.signal(signal.SIGKILL)
    killed = time.monotonic()
    await asyncio.wait_for(reading, HANG)
    assert time.monotonic() - killed <= LEASE + 0.5
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "producer_lost")
    assert seqs(events) == list(range(1, len(events) + 1))
    assert text_of(events) == (await demo_text("k", 5000))[: len(text_of(events))]
    unwatched = [await collect(clients.sse(http, other, sid)) for sid in sids[1:]]
    assert {e[-1].get("code") for e in unwatched} == {"producer_lost"}


async def test_a_frozen_producer_is_fenced_and_adds_nothing_when_it_wakes(make_process, http):
    frozen, other = await make_process(), await make_process()
    sid = await start(http, frozen, prompt="z", rate=200, tokens=2000)
    events = []
    reading = asyncio.create_task(_follow(clients.sse(http, other, sid), events))
    await until(lambda: len(events) > 20)
    frozen.signal(signal.SIGSTOP)
    await asyncio.wait_for(reading, HANG)
    assert events[-1]["code"] == "producer_lost"
    frozen.signal(signal.SIGCONT)
    again = await collect(clients.sse(http, frozen, sid))
    assert again == events
    # Its own tail learns of the end, and its upstream is closed: nothing of it runs on.
    assert (await session(http, frozen, sid))["seq"] == len(events)


async def test_a_thawed_producer_does_not_bring_back_what_was_taken_over_and_lost(
    make_process, redis_server, http
):
    frozen, other = await make_process(), await make_process()
    sid = await start(http, frozen, prompt="b", rate=100, tokens=5000)
    await collect(clients.sse(http, frozen, sid), count=10)
    frozen.signal(signal.SIGSTOP)
    events = await collect(clients.sse(http, other, sid))
    assert events[-1]["code"] == "producer_lost"
    client = redis_server.client()
    client.flushall()
    frozen.signal(signal.SIGCONT)
    fresh = await start(http, frozen, prompt="b", tokens=5, rate=0)
    assert (await collect(clients.sse(http, frozen, fresh)))[-1]["type"] == "done"
    async with http.get(frozen.url(f"/v1/sessions/{sid}")) as response:
        assert response.status == 404
    assert client.exists(f"tw:{{{sid}}}:l") == 0
    client.close()


async def test_abort_through_another_node_closes_the_log_of_a_frozen_producer(make_process, http):
    frozen, other = await make_process(), await make_process()
    sid = await start(http, frozen, prompt="f", rate=100, tokens=2000)
    await collect(clients.sse(http, other, sid), count=10)
    frozen.signal(signal.SIGSTOP)
    reading = asyncio.create_task(collect(clients.sse(http, other, sid)))
    answer = await control(http, other, sid, "abort")
    assert (answer["status"], answer["upstream_closed"]) == ("aborted", False)
    events = await reading
    assert events[-1]["type"] == "aborted"
    frozen.signal(signal.SIGCONT)
    assert await collect(clients.sse(http, frozen, sid)) == events


async def test_sigterm_sends_viewers_elsewhere_and_ends_what_ran(make_process, http):
    leaving, staying = await make_process(), await make_process()
    sid = await start(http, leaving, prompt="d", rate=50, tokens=5000)
    here, there = clients.sse(http, leaving, sid), []
    await anext(here)
    reading = asyncio.create_task(_follow(clients.sse(http, staying, sid), there))
    async with http.ws_connect(leaving.url(f"/v1/sessions/{sid}/ws")) as ws:
        socket = Socket(ws)
        while len(socket.events()) < 5:
            await socket.next()
        leaving.signal(signal.SIGTERM)
        await socket.until("moving")
        with pytest.raises(EOFError):
            while True:
                await socket.next()
        assert ws.close_code == 1012
    kinds = [item["type"] async for item in here]
    assert kinds[-1] == "moving"
    await asyncio.wait_for(reading, HANG)
    assert there[-1] == {"id": there[-1]["id"], "type": "aborted", "reason": "shutdown"}
    assert await asyncio.wait_for(leaving.process.wait(), HANG) == 0


async def test_redis_killed_without_persistence_is_healed_byte_for_byte(make_node, own_redis, http):
    nodes = [
        await make_node({"paced": sources.paced}, redis_url=own_redis.url, lease=3.0) for _ in range(2)
    ]
    names = [f"h{n}" for n in range(50)]
    sids = [
        await start(http, nodes[n % 2], prompt=name, tokens=150, rate=50) for n, name in enumerate(names)
    ]
    seen = [[] for _ in sids]
    readers = [
        asyncio.create_task(_follow(clients.sse(http, nodes[(n + n // 25) % 2], sid), seen[n]))
        for n, sid in enumerate(sids)
    ]
    await until(lambda: min(map(len, seen)) > 20)
    own_redis.kill()
    lost_acked = sum(map(len, seen))
    own_redis.start()
    await asyncio.wait_for(asyncio.gather(*readers), HANG)
    client = own_redis.client()
    held = [client.xrevrange(f"tw:{{{sid}}}:l", count=1)[0][1] for sid in sids]
    client.close()
    print(f"lost_acked={lost_acked}")
    assert lost_acked > 0
    assert all(b"z" in fields for fields in held)
    for name, events in zip(names, seen, strict=True):
        assert text_of(events) == sources.text(name, 150)
        assert seqs(events) == list(range(1, 152))


async def test_a_loss_after_the_end_is_healed_while_the_producer_lingers(make_node, own_redis, http):
    node = await make_node({"paced": sources.paced}, redis_url=own_redis.url, linger=20.0)
    other = await make_node({"paced": sources.paced}, redis_url=own_redis.url)
    sid = await start(http, node, prompt="l", tokens=30)
    events = await collect(clients.sse(http, node, sid))
    own_redis.kill()
    own_redis.start()
    client = own_redis.client()
    await until(lambda: client.exists(f"tw:{{{sid}}}:l"))
    client.close()
    assert await collect(clients.sse(http, other, sid)) == events


async def _disturbed(make_node, redis, http, disturb):
    """Run one session over two nodes while `disturb(client, round)` is called again and again."""
    nodes = [await make_node({"paced": sources.paced}, redis_url=redis.url) for _ in range(2)]
    sid = await start(http, nodes[0], prompt="d", tokens=200, rate=100)
    readings = [asyncio.create_task(collect(clients.sse(http, node, sid))) for node in nodes]
    client = redis.client()
    for turn in range(6):
        await asyncio.sleep(0.2)
        disturb(client, turn)
    for events in await asyncio.wait_for(asyncio.gather(*readings), HANG):
        assert text_of(events) == sources.text("d", 200)
        assert seqs(events) == list(range(1, 202))
    client.close()


DISTURBANCES = {
    "connections": lambda client, _: client.client_kill_filter(_type="normal", skipme=True),
    "doorbell": lambda client, _: client.client_kill_filter(_type="pubsub"),
    "scripts": lambda client, _: client.script_flush(),
    "lost_tail": lambda client, _: _cut_tail(client),
    "hole": lambda client, _: _cut_hole(client),
    "log": lambda client, turn: turn == 2 and client.delete(*client.keys("tw:*:l")),
    "everything": lambda client, turn: turn == 2 and client.flushall(),
}


def _cut_tail(client):
    for key in client.keys("tw:*:l"):
        last = [id for id, _ in client.xrevrange(key, count=5)]
        client.xtrim(key, maxlen=0) if len(last) < 5 else client.xdel(key, *last)


def _cut_hole(client):
    for key in client.keys("tw:*:l"):
        rows = client.xrange(key)
        client.xdel(key, rows[len(rows) // 2][0])


@pytest.mark.parametrize("what", DISTURBANCES)
async def test_whatever_redis_loses_the_stream_is_whole(make_node, own_redis, http, what):
    await _disturbed(make_node, own_redis, http, DISTURBANCES[what])


async def test_a_redis_that_stops_for_a_while_only_delays(make_node, own_redis, http):
    def freeze(client, turn):
        if turn == 1:
            own_redis.process.send_signal(signal.SIGSTOP)
        if turn == 4:
            own_redis.process.send_signal(signal.SIGCONT)

    await _disturbed(make_node, own_redis, http, freeze)


async def test_in_a_full_redis_an_abort_still_works(make_node, own_redis, http):
    node = await make_node({"paced": sources.paced}, redis_url=own_redis.url)
    sid = await start(http, node, prompt="o", tokens=5000, rate=200)
    await collect(clients.sse(http, node, sid), count=20)
    client = own_redis.client()
    client.config_set("maxmemory", "1mb")
    async with http.post(node.url("/v1/sessions"), json={"prompt": "x"}) as response:
        assert response.status in (429, 503)  # whoever has seen by now that it is full
    answer = await control(http, node, sid, "abort")
    client.config_set("maxmemory", "0")
    client.close()
    assert (answer["status"], answer["upstream_closed"]) == ("aborted", True)
    events = await collect(clients.sse(http, node, sid))
    assert events[-1]["type"] == "aborted"
    assert seqs(events) == list(range(1, len(events) + 1))


async def test_a_redis_that_evicts_is_refused(make_node, own_redis):
    client = own_redis.client()
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.close()
    with pytest.raises(StoreUnavailable, match="noeviction"):
        await make_node({"paced": sources.paced}, redis_url=own_redis.url)


@pytest.mark.parametrize("loss", ["gate", "everything"])
async def test_a_pause_that_redis_loses_holds_all_the_same(make_node, own_redis, http, loss):
    nodes = [await make_node({"paced": sources.paced}, redis_url=own_redis.url) for _ in range(2)]
    sid = await start(http, nodes[0], prompt="p", tokens=100, rate=200)
    seen = [[], []]
    readings = [
        asyncio.create_task(_keep(clients.sse(http, node, sid), items))
        for node, items in zip(nodes, seen, strict=True)
    ]
    await until(lambda: all(len(items) > 10 for items in seen))
    assert (await control(http, nodes[1], sid, "pause"))["paused"]
    await until(lambda: all(items[-1]["type"] == "paused" for items in seen))
    client, key = own_redis.client(), f"tw:{{{sid}}}:m"
    held = client.hget(key, "gate").split()[:2]
    client.flushall() if loss == "everything" else client.hdel(key, "gate")
    await until(lambda: (client.hget(key, "gate") or b"").split()[:2] == held)
    client.close()
    assert [items[-1]["type"] for items in seen] == ["paused", "paused"]
    assert not (await control(http, nodes[0], sid, "resume"))["paused"]
    await asyncio.wait_for(asyncio.gather(*readings), HANG)
    events = [[item for item in items if is_event(item)] for items in seen]
    assert [text_of(each) for each in events] == [sources.text("p", 100)] * 2
    assert [seqs(each) for each in events] == [list(range(1, 102))] * 2


async def test_a_draining_node_still_answers_and_sends_everyone_elsewhere(make_process, http):
    node = await make_process(drain=4)
    async with http.get(node.url("/readyz")) as response:
        assert (response.status, await response.json()) == (200, {"status": "ready"})
    sid = await start(http, node, prompt="d", rate=50, tokens=5000)
    items = []
    here = asyncio.create_task(_keep(clients.sse(http, node, sid), items))
    await until(lambda: items)
    async with http.ws_connect(node.url("/v1/ws")) as idle:
        node.signal(signal.SIGTERM)
        message = await idle.receive(HANG)
        assert (message.type, idle.close_code) == (aiohttp.WSMsgType.CLOSE, 1012)
        async with http.get(node.url("/readyz")) as response:
            assert response.status == 503
        async with http.get(node.url("/healthz")) as response:
            assert response.status == 200
        async with http.post(node.url("/v1/sessions"), json={"prompt": "x"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert response.headers["Connection"] == "close"
        async with http.get(node.url(f"/v1/sessions/{sid}/events")) as response:
            assert (response.status, (await response.text())[:6]) == (200, "retry:")
    await here
    assert items[-1]["type"] == "moving"
    assert await asyncio.wait_for(node.process.wait(), HANG) == 0
