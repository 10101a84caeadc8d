"""`/v1/inspect` on real nodes: one shows them all, to operators, while somebody looks."""

import asyncio
import signal
from contextlib import aclosing

import pytest

from tests import clients, sources
from tests.clients import start
from tests.inspect.reader import place, seconds, session_of, until
from tests.processes import serve
from tests.security.people import LINES, SECRET, bearer

STREAM = "tw:{inspect}:a"
LOG_KEY = "1:" + "A" * 43 + "="


@pytest.fixture
async def pair(redis_server):
    """Two nodes as processes."""
    nodes = [await serve(redis_server.url, lease=1, linger=5, drain=0.2) for _ in range(2)]
    yield nodes
    for node in nodes:
        await node.end()


async def control(http, node, sid, action):
    async with http.post(node.url(f"/v1/sessions/{sid}/{action}")) as response:
        assert response.status == 200
        return await response.json()


async def test_any_node_shows_the_sessions_and_the_viewers_of_all(pair, http):
    first, second = pair
    sid = await start(http, first, tokens=90_000, rate=100, session={"conversation": "a chat"})
    reading = asyncio.create_task(clients.collect(clients.sse(http, second, sid)))
    async with (
        http.ws_connect(first.url(f"/v1/sessions/{sid}/ws")),
        aclosing(seconds(http, second)) as stream,
    ):
        watched = session_of(sid, lambda session: len(session["viewers"]) == 2 and session["rate"])
        shown, session = await until(stream, watched)
        producer = session["producer"]
        assert session["rate"] > 0
        assert (session["status"], session["paused"], session["model"]) == ("running", False, "demo")
        assert session["conversation"] == "a chat"
        assert session["viewers"].pop(producer["node"]) == {"websocket": 1}
        ((other, viewers),) = session["viewers"].items()
        assert viewers == {"sse": 1}
        assert {node["node"] for node in shown["nodes"]} == {producer["node"], other}
        assert session["fence"].startswith(f"{session['epoch']}-")
        assert 0 < producer["lease"] <= 1
        _, nodes = await until(stream, lambda s: s["tokens"] > 0 and s["commit"]["p50"] and s["nodes"])
        assert [(node["state"], node["redis_down"]) for node in nodes] == [("serving", 0)] * 2
        gate = (await control(http, second, sid, "pause"))["gate"]
        held = session_of(sid, lambda session: session["producer"]["held_bytes"], paused=True)
        _, session = await until(stream, held)
        assert session["gate"] == gate
        await control(http, second, sid, "abort")
        _, session = await until(stream, session_of(sid, status="aborted"))
        assert session["producer"]["lingering"]
    await reading


async def test_of_a_node_that_dies_it_is_told_and_what_became_of_its_sessions(pair, http):
    first, second = pair
    async with aclosing(seconds(http, second)) as stream:
        sid = await start(http, first, tokens=90_000, rate=50)
        await until(stream, session_of(sid, status="running"))
        reading = asyncio.create_task(clients.collect(clients.sse(http, second, sid)))
        first.signal(signal.SIGKILL)
        states, ended, nodes = set(), None, 2
        while nodes == 2 or ended is None:
            now, _ = await until(stream, lambda second: True)
            nodes = len(now["nodes"])
            states |= {node["state"] for node in now["nodes"]}
            ended = ended or session_of(sid, status="error")(now)
        assert states == {"serving", "silent"}
        assert (nodes, ended["producer"]) == (1, None)
        assert (await reading)[-1]["code"] == "producer_lost"


async def test_an_inspector_who_comes_back_misses_no_second_and_one_of_another_node_begins_anew(
    make_node, http
):
    here, there = await make_node(), await make_node()
    async with aclosing(seconds(http, here)) as stream:
        last = (await until(stream, lambda s: s["nodes"]))[0]["id"]
    async with aclosing(seconds(http, here)) as stream:
        await until(stream, lambda s: place(s["id"]) >= place(last) + 2)
    async with aclosing(seconds(http, here, after=last)) as stream:
        events = [await anext(stream) for _ in range(3)]
    assert place(events[0]["id"]) - events[0].get("n", 1) == place(last)
    assert [place(e["id"]) - place(events[0]["id"]) for e in events] == [0, 1, 2]
    async with aclosing(seconds(http, there, after=last)) as stream:
        reset, event = await anext(stream), await anext(stream)
    assert (reset["event"], reset["reason"]) == ("reset", "diverged")
    assert place(event["id"]) == event.get("n", 1)


async def test_who_comes_late_is_told_of_the_minutes_before(make_node, http, monkeypatch):
    monkeypatch.setattr("server.session.inspection.PERIOD", 0.2)
    node = await make_node({"paced": sources.paced})
    sid = await start(http, node, tokens=60, rate=0)
    await clients.collect(clients.sse(http, node, sid))
    await asyncio.sleep(1)  # nobody looks
    async with aclosing(seconds(http, node)) as stream:
        newest, before = {}, []
        while "nodes" not in newest:
            newest = await anext(stream)
            before.append(newest)
    assert any(second["tokens"] for second in before[:-1])
    assert len(before) >= 3
    assert [b["at"] for b in before] == sorted(b["at"] for b in before)


async def test_redis_holds_nothing_while_nobody_inspects_and_nothing_for_long(
    make_node, http, redis_server
):
    nodes = [await make_node({"paced": sources.paced}) for _ in range(2)]
    await start(http, nodes[0])
    client = redis_server.client()
    assert not client.exists(STREAM)
    async with aclosing(seconds(http, nodes[1])) as stream:
        await until(stream, lambda s: len(s["nodes"]) == 2)
        assert 0 < client.ttl(STREAM) <= 60
    client.close()


async def test_what_nodes_say_is_sealed_as_logs_are(make_node, http, redis_server):
    options = {"keys": LINES, "secret": SECRET, "log_keys": LOG_KEY}
    first, second = [await make_node({"paced": sources.paced}, **options) for _ in range(2)]
    async with http.post(
        first.url("/v1/sessions"),
        json={"prompt": "x", "tokens": 500, "rate": 50},
        headers=bearer("alice"),
    ) as answer:
        sid = (await answer.json())["id"]
    async with aclosing(seconds(http, second, headers=bearer("operator"))) as stream:
        _, session = await until(stream, session_of(sid))
    assert session["principal"] == "key:alice"
    client = redis_server.client()
    kept = b"".join(fields[b"a"] for _, fields in client.xrange(STREAM))
    client.close()
    assert kept
    assert b"alice" not in kept
    assert sid.encode() not in kept


async def test_while_redis_is_away_a_node_still_speaks_for_itself(make_node, http, own_redis):
    node = await make_node({"paced": sources.paced}, redis_url=own_redis.url)
    async with aclosing(seconds(http, node)) as stream:
        await until(stream, lambda s: s["nodes"])
        own_redis.kill()
        await until(stream, lambda s: s["nodes"][0]["redis_down"])
        own_redis.start()
        await until(stream, lambda s: not s["nodes"][0]["redis_down"])


async def test_a_node_that_drains_sends_its_inspectors_elsewhere(make_node, http):
    node = await make_node()
    async with aclosing(seconds(http, node)) as stream:
        await until(stream, lambda s: s["nodes"])
        await node.node.drain(0.0)
        assert [e["event"] async for e in stream if "event" in e] == ["moving"]
    async with http.get(node.url("/v1/inspect")) as refused:
        assert refused.status == 200  # an EventSource would never come again after anything else
        assert "draining" in await refused.text()
