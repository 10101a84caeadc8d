"""Pause, resume and abort: in-band and over HTTP, from any node."""

import asyncio
import time

import aiohttp
import pytest

from tests import clients, sources
from tests.clients import Socket, becomes, collect, control, seqs, session, start, text_of
from tests.waiting import HANG, until


@pytest.mark.parametrize("where", [0, 1])
async def test_no_token_passes_the_gate_until_the_resume(pair, http, where):
    sid = await start(http, pair[0], model="paced", prompt="g", tokens=200, rate=200)
    async with http.ws_connect(pair[where].url(f"/v1/sessions/{sid}/ws")) as ws:
        socket = Socket(ws)
        while len(socket.events()) < 20:
            await socket.next()
        reply = await socket.ask("pause", session=sid)
        at = len(socket.events())
        assert reply["ok"]
        assert reply["paused"]
        assert seqs(socket.events())[-1] <= reply["gate"]
        other = await collect(clients.sse(http, pair[1 - where], sid), count=reply["gate"])
        assert seqs(other) == list(range(1, reply["gate"] + 1))
        # The upstream goes on: wait until it has ended, in the log and behind the gate.
        await becomes(http, pair[0], sid, lambda it: it["status"] != "running")
        assert len(socket.events()) == at
        assert (await socket.ask("resume", session=sid))["paused"] is False
        await socket.until("done")
    assert text_of(socket.events()) == sources.text("g", 200)


async def test_a_second_viewer_holds_at_the_gate_and_is_told(pair, http, stepped):
    sid = await start(http, pair[0])
    reader = clients.sse(http, pair[1], sid)
    stepped.step("a", "b")
    seen = [await anext(reader) for _ in range(3)]
    paused = await control(http, pair[0], sid, "pause")
    assert (paused["status"], paused["paused"], paused["gate"]) == ("running", True, 2)
    assert await control(http, pair[1], sid, "pause") == paused
    assert await anext(reader) == {"type": "paused", "facts": {"gate": 2}}
    stepped.step("c")
    stepped.finish()
    resumed = await control(http, pair[1], sid, "resume")
    assert resumed["paused"] is False
    assert (await anext(reader))["type"] == "resumed"
    rest = await collect(reader)
    assert text_of([*seen[1:], *rest]) == "abc"
    assert rest[-1]["type"] == "done"


async def test_what_ends_while_paused_is_delivered_after_the_resume(pair, http, stepped):
    sid = await start(http, pair[0])
    stepped.step("a")
    await collect(clients.sse(http, pair[0], sid), count=1)
    await control(http, pair[0], sid, "pause")
    stepped.step("b")
    stepped.finish()
    await becomes(http, pair[0], sid, lambda it: it["status"] == "done")
    held = clients.sse(http, pair[1], sid)
    assert [(await anext(held))["type"] for _ in range(2)] == ["session", "content"]
    await control(http, pair[1], sid, "resume")
    assert text_of(await collect(held)) == "b"


async def test_with_no_hold_limit_the_upstream_is_not_read_while_paused(pair, http, stepped):
    sid = await start(http, pair[0], session={"hold_limit": 0})
    stepped.step("a")
    await collect(clients.sse(http, pair[0], sid), count=1)
    await control(http, pair[0], sid, "pause")
    stepped.step("b", "c", "d")
    await until(lambda: stepped.given == 2)
    await control(http, pair[0], sid, "pause")
    assert (stepped.given, stepped.steps.qsize()) == (2, 2)
    await control(http, pair[1], sid, "resume")
    stepped.finish()
    assert text_of(await collect(clients.sse(http, pair[0], sid))) == "abcd"


async def test_a_pause_lapses(pair, http, stepped):
    sid = await start(http, pair[0], session={"pause_ttl": 0.3})
    stepped.step("a")
    await collect(clients.sse(http, pair[0], sid), count=1)
    await control(http, pair[0], sid, "pause")
    stepped.step("b")
    stepped.finish()
    assert text_of(await collect(clients.sse(http, pair[1], sid))) == "ab"
    assert (await session(http, pair[1], sid))["paused"] is False


async def test_one_socket_may_hold_for_itself(pair, http, stepped):
    sid = await start(http, pair[0])
    async with http.ws_connect(pair[0].url("/v1/ws")) as ws:
        socket = Socket(ws)
        await socket.ask("attach", session=sid)
        held = await socket.ask("pause", session=sid, scope="viewer")
        assert held["scope"] == "viewer"
        stepped.step("a")
        stepped.finish()
        assert text_of(await collect(clients.sse(http, pair[1], sid))) == "a"
        assert socket.events() == []
        await socket.ask("resume", session=sid, scope="viewer")
        await socket.until("done")
        assert text_of(socket.events()) == "a"


@pytest.mark.parametrize("where", [0, 1])
async def test_abort_closes_log_and_upstream_and_says_so(pair, http, stepped, where):
    sid = await start(http, pair[0])
    stepped.step("a")
    reader = clients.sse(http, pair[0], sid)
    await collect(clients.sse(http, pair[1], sid), count=1)
    answer = await control(http, pair[where], sid, "abort")
    assert stepped.closed.is_set()
    assert (answer["status"], answer["upstream_closed"]) == ("aborted", True)
    assert answer["node"] == pair[0].node.name
    assert answer["upstream_close_ms"] >= 0
    events = await collect(reader)
    assert [e["type"] for e in events] == ["content", "aborted"]
    assert events[-1]["id"] == answer["id"]
    again = await control(http, pair[1 - where], sid, "abort")
    assert again == answer
    assert (await session(http, pair[1], sid))["text"] == "a"


async def test_abort_while_paused_delivers_the_end(pair, http, stepped):
    sid = await start(http, pair[0])
    stepped.step("a")
    await collect(clients.sse(http, pair[0], sid), count=1)
    await control(http, pair[0], sid, "pause")
    await control(http, pair[1], sid, "abort")
    events = await collect(clients.sse(http, pair[0], sid))
    assert [e["type"] for e in events] == ["content", "aborted"]


async def test_two_hundred_races_of_abort_with_completion_end_once_each(pair, http):
    async def race(number):
        # The shortest is over before anybody can abort it, the longest never is: others may be either.
        tokens = (1, 6, 8, 10, 12, 40, 8000)[number % 7]
        sid = await start(http, pair[0], model="paced", prompt="r", tokens=tokens, rate=800)
        reading = asyncio.create_task(collect(clients.sse(http, pair[number % 2], sid)))
        await asyncio.sleep((number % 20) / 1500)
        answer = await control(http, pair[number // 2 % 2], sid, "abort")
        events, late = await reading, await collect(clients.sse(http, pair[1], sid))
        assert events == late
        finals = [e["type"] for e in events if e["type"] in ("done", "aborted", "error")]
        assert finals == [events[-1]["type"]] == [answer["status"]]
        return finals[0]

    outcomes = []
    for batch in range(10):
        outcomes += await asyncio.gather(*(race(batch * 20 + n) for n in range(20)))
    assert set(outcomes) == {"done", "aborted"}
    assert len(outcomes) == 200


async def test_after_the_end_commands_are_answered_with_the_winner(pair, http):
    sid = await start(http, pair[0], model="paced", tokens=2)
    await collect(clients.sse(http, pair[0], sid))
    async with http.ws_connect(pair[1].url("/v1/ws")) as ws:
        socket = Socket(ws)
        for _ in range(34):
            for action in ("pause", "resume", "abort"):
                reply = await socket.ask(action, session=sid)
                assert (reply["ok"], reply["status"], reply["paused"]) == (True, "done", False)


async def test_a_session_that_nobody_watches_is_aborted_as_orphaned(pair, http, stepped):
    sid = await start(http, pair[0], session={"orphan_ttl": 0})
    stepped.step("a")
    await collect(clients.sse(http, pair[1], sid), count=1)
    await asyncio.wait_for(stepped.closed.wait(), HANG)
    events = await collect(clients.sse(http, pair[1], sid))
    assert events[-1] == {"id": events[-1]["id"], "type": "aborted", "reason": "orphaned"}


async def test_a_session_whose_watcher_comes_back_in_time_on_another_node_is_spared(pair, http, stepped):
    patience = 1.0
    sid = await start(http, pair[0], session={"orphan_ttl": patience})
    stepped.step("a")
    cursor = (await collect(clients.sse(http, pair[1], sid), count=1))[0]["id"]
    again = clients.sse(http, pair[0], sid, cursor)
    stepped.step("b")
    (event,) = await collect(again, count=1)
    async with http.ws_connect(pair[1].url(f"/v1/sessions/{sid}/ws")):
        await asyncio.sleep(1.5 * patience)  # somebody is there all the while
        assert not stepped.closed.is_set()
        left = time.monotonic()
    await asyncio.wait_for(stepped.closed.wait(), HANG)
    assert time.monotonic() - left >= patience
    events = await collect(clients.sse(http, pair[1], sid, event["id"]))
    assert [(e["type"], e["reason"]) for e in events] == [("aborted", "orphaned")]


@pytest.mark.parametrize("limit", [{"max_tokens": 5}, {"max_bytes": 500}, {"max_seconds": 0.2}])
async def test_a_session_over_its_limit_is_aborted(make_node, http, limit):
    node = await make_node({"paced": sources.paced}, **limit)
    sid = await start(http, node, tokens=500, rate=100)
    events = await collect(clients.sse(http, node, sid))
    assert (events[-1]["type"], events[-1]["reason"]) == ("aborted", "limit")
    assert seqs(events) == list(range(1, len(events) + 1))


async def test_deleting_ends_wipes_and_stays(pair, http, stepped, redis_server):
    sid = await start(http, pair[0])
    stepped.step("a")
    reader = clients.sse(http, pair[1], sid)
    await anext(reader)
    async with http.delete(pair[1].url(f"/v1/sessions/{sid}")) as response:
        assert response.status == 204
    assert stepped.closed.is_set()
    await collect(reader)
    for path in (f"/v1/sessions/{sid}", f"/v1/sessions/{sid}/events"):
        async with http.get(pair[0].url(path)) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (410, "gone")
    client = redis_server.client()
    assert client.exists(f"tw:{{{sid}}}:l") == 0
    client.close()


async def test_one_socket_carries_many_sessions(pair, http):
    async with http.ws_connect(pair[0].url("/v1/ws")) as ws:
        socket = Socket(ws)
        for name in ("a", "b", "c"):
            reply = await socket.ask("start", model="paced", prompt=name, tokens=30, rate=300)
            assert reply["ok"]
        while sum(item["type"] == "done" for item in socket.items) < 3:
            await socket.next()
        by_session = {}
        for event in socket.events():
            by_session.setdefault(event["session"], []).append(event)
        assert sorted(text_of(events) for events in by_session.values()) == sorted(
            sources.text(name, 30) for name in ("a", "b", "c")
        )
        await ws.send_str('{"type":"ping","ref":"p"}')
        assert await socket.until("pong") == {"type": "pong", "ref": "p"}


async def test_an_abort_on_the_sessions_own_socket_is_answered_before_the_close(pair, http, stepped):
    sid = await start(http, pair[0])
    async with http.ws_connect(pair[1].url(f"/v1/sessions/{sid}/ws")) as ws:
        socket = Socket(ws)
        reply = await socket.ask("abort", session=sid)
        assert (reply["ok"], reply["status"], reply["upstream_closed"]) == (True, "aborted", True)
        assert (await socket.until("aborted"))["reason"] == "user"
        assert (await ws.receive(HANG)).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 1000


async def test_a_socket_of_one_finished_session_ends_with_1000(pair, http):
    sid = await start(http, pair[0], model="paced", tokens=2)
    async with http.ws_connect(pair[1].url(f"/v1/sessions/{sid}/ws")) as ws:
        socket = Socket(ws)
        with pytest.raises(EOFError):
            while True:
                await socket.next()
        assert ws.close_code == 1000
        assert socket.events()[-1]["type"] == "done"
