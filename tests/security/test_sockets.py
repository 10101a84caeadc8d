"""Attacks over WebSockets: answers that nobody reads, long names, strangers, commands without end."""

import asyncio
import time
from itertools import count

import orjson
import pytest

from server.errors import InvalidRequest
from server.session import ledger
from server.transport.dialogue import NAME, checked
from tests import sources
from tests.clients import Socket, becomes, start
from tests.fuzz.calls import frame
from tests.processes import memory
from tests.security.people import KEYS, LINES, bearer
from tests.security.sockets import Ends, close_code, frames, opened
from tests.waiting import HANG, until

MANY = 1_000_000
LONG = "x" * (NAME - 2)
PIECE = 64 * 1024
PATIENCE = 3.0
"""Seconds in which a client that is told of its end can read what stands before that."""
KINDS = {
    "/v1/ws": frame(orjson.dumps({"type": "ping", "ref": LONG})),
    "/api/chat/ws": frame(orjson.dumps({"type": "x", "requestId": LONG})),
}


@pytest.mark.parametrize(
    "name",
    [None, 0, -1.5, True, "", "r", LONG, {"a": [1, {}]}, list(range(200)), "é" * 511],
    ids=lambda name: repr(name)[:20],
)
def test_a_message_may_be_called_anything_short(name):
    assert checked("ref", name) == name


@pytest.mark.parametrize("name", [LONG + "x", "é" * 512, "\n" * 512, [1] * 512, {"a": LONG}])
def test_a_message_has_no_long_name(name):
    with pytest.raises(InvalidRequest, match="`ref` may have 1024 bytes at most"):
        checked("ref", name)


async def test_a_long_name_is_refused_and_not_said_again(make_node, http):
    node = await make_node({"paced": sources.paced})
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        await ws.send_json({"type": "ping", "ref": LONG + "x"})
        refused = await ws.receive_json(timeout=HANG)
        assert (refused["ref"], refused["error"]["code"]) == (None, "invalid_request")
        await ws.send_json({"type": "ping", "ref": LONG})
        assert await ws.receive_json(timeout=HANG) == {"type": "pong", "ref": LONG}
    async with http.ws_connect(node.url("/api/chat/ws")) as ws:
        await ws.send_json({"type": "x", "requestId": LONG})
        assert (await ws.receive_json(timeout=HANG))["requestId"] == LONG
        await ws.send_json({"type": "x", "requestId": LONG + "x"})
        closed = await ws.receive(HANG)
        assert (closed.data, closed.extra) == (1008, "invalid_request")


async def flooded(writer: asyncio.StreamWriter, data: bytes, size: int) -> int:
    """Send that again and again, `size` bytes of it at most; return how many were taken."""
    piece = data * (PIECE // len(data))
    for taken in range(0, size, len(piece)):
        writer.write(piece)
        try:
            await writer.drain()
        except ConnectionError:
            return taken
    return size


@pytest.mark.parametrize("path", KINDS)
async def test_answers_that_nobody_reads_cost_little(make_process, path):
    node = await make_process(send_timeout=0.5, max_commands=MANY, max_requests=MANY)
    before = memory(node.process.pid)
    most = 128 << 20
    async with opened(node, path) as (_, one), opened(node, path) as (_, other):
        async with asyncio.timeout(HANG):
            taken = await asyncio.gather(*(flooded(end, KINDS[path], most) for end in (one, other)))
        cost = memory(node.process.pid) - before
    # What the kernel holds is a few MB at either end.
    assert max(taken) < most / 4, taken
    assert cost < 32 << 20


async def still(writer: asyncio.StreamWriter) -> None:
    """Wait until the server takes nothing more of what is sent to it."""
    same, left = 0, writer.transport.get_write_buffer_size()
    assert left > 0
    async with asyncio.timeout(HANG):
        while same < 30:
            await asyncio.sleep(0.01)
            now = writer.transport.get_write_buffer_size()
            same, left = (same + 1 if now == left else 0), now


def jam(ends: Ends, path: str, times: int = 16_000) -> None:
    """Send more than the server and both kernels hold between them."""
    ends[1].write(KINDS[path] * times)


@pytest.mark.parametrize("path", KINDS)
async def test_who_reads_no_answers_is_told_that_it_is_too_slow(make_node, path):
    node = await make_node(send_timeout=PATIENCE, max_commands=MANY, max_requests=MANY)
    async with opened(node, path) as ends:
        jam(ends, path)
        await until(lambda: len(node.node.leavers) == 0)
        assert await close_code(ends[0]) == 4408


@pytest.mark.parametrize("path", KINDS)
async def test_who_reads_late_gets_every_answer(make_node, path):
    node = await make_node(send_timeout=HANG, max_commands=MANY, max_requests=MANY)
    async with opened(node, path) as ends:
        jam(ends, path)
        await still(ends[1])
        got = frames(ends[0])
        answers = [await anext(got) for _ in range(16_000)]
        assert {opcode for opcode, _ in answers} == {1}
        assert len({payload for _, payload in answers}) == 1


async def test_who_reads_nothing_and_leaves_is_not_waited_for(make_node):
    node = await make_node(send_timeout=10 * HANG, max_commands=MANY)
    async with opened(node, "/v1/ws") as ends:
        jam(ends, "/v1/ws")
        await still(ends[1])
    await until(lambda: len(node.node.leavers) == 0)


async def test_who_is_behind_can_still_abort(make_node, http):
    stepped = sources.Stepped()
    node = await make_node({"stepped": stepped}, send_timeout=2 * HANG)
    sid = await start(http, node)
    stepped.step(*["x" * 1000] * 3000)
    await becomes(http, node, sid, lambda session: session["seq"] == 3000)
    async with opened(node, "/v1/ws") as (_, writer):
        for kind in ("attach", "pause", "resume", "abort"):
            writer.write(frame(orjson.dumps({"type": kind, "session": sid})))
        await becomes(http, node, sid, lambda session: session["status"] == "aborted")


@pytest.fixture
async def asking(make_node):
    return await make_node({"paced": sources.paced}, keys=LINES)


async def test_a_stranger_has_few_words(asking, http):
    async with http.ws_connect(asking.url("/v1/ws")) as ws:
        for _ in range(20):
            await ws.send_json({"type": "ping"})
            assert await ws.receive_json(timeout=HANG) == {"type": "pong"}
        await ws.send_json({"type": "auth", "token": KEYS["alice"]})
        assert (await ws.receive_json(timeout=HANG))["error"]["code"] == "unauthorized"
        assert (await ws.receive(HANG)).data == 4401


@pytest.mark.parametrize("data", [b"\0", b'{"type":"auth","token":"tw_x"}', b"{"])
async def test_a_stranger_may_not_go_on_guessing(asking, data):
    async with opened(asking, "/v1/ws") as (reader, writer):
        writer.write(frame(data, opcode=2 if data == b"\0" else 1) * 30)
        *said, (_, last) = [each async for each in frames(reader)]
        assert len(said) == 21
        assert last == (4401).to_bytes(2) + b"unauthorized"


async def test_a_stranger_has_small_frames(asking, http):
    async with http.ws_connect(asking.url("/v1/ws")) as ws:
        socket = Socket(ws)
        pad = "x" * (16 << 10)
        refused = await socket.ask("auth", token=KEYS["alice"], pad=pad[:-200])
        assert refused["ok"]
        assert (await socket.ask("start", prompt=pad))["ok"]
    async with http.ws_connect(asking.url("/v1/ws")) as ws:
        await ws.send_json({"type": "auth", "token": KEYS["alice"], "pad": pad})
        assert (await ws.receive_json(timeout=HANG))["error"]["code"] == "too_large"
        assert (await ws.receive(HANG)).data == 1009


async def test_where_nobody_is_asked_nobody_is_a_stranger(make_node, http):
    node = await make_node({"paced": sources.paced})
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        socket = Socket(ws)
        assert (await socket.ask("start", prompt="x" * (32 << 10)))["ok"]
        for _ in range(30):
            await ws.send_json({"type": "ping"})
        while [item["type"] for item in socket.items].count("pong") < 30:
            await socket.next()


async def test_commands_are_requests_of_their_principal_on_all_nodes(make_node, http, monkeypatch):
    now, stepped = time.time(), sources.Stepped()
    monkeypatch.setattr(ledger.time, "time", lambda: now)  # no minute ends meanwhile
    nodes = [await make_node({"stepped": stepped}, keys=LINES, max_requests=12) for _ in range(2)]
    ends = [await http.ws_connect(node.url("/v1/ws"), headers=bearer("alice")) for node in nodes]
    sockets = [Socket(ws) for ws in ends]
    sid = (await sockets[0].ask("start", prompt="x"))["session"]
    # Two handshakes and a start: nine more are allowed, though neither node has seen as many.
    asked = [await socket.ask("pause", session=sid) for _ in range(8) for socket in sockets]
    assert [reply["ok"] for reply in asked] == [True] * 9 + [False] * 7
    for error in (reply["error"] for reply in asked[9:]):
        assert (error["code"], 0 < error["retry_after"] <= 60) == ("rate_limited", True)
    # What stays on a socket is free, and it stays open.
    assert (await sockets[0].ask("pause", session=sid, scope="viewer"))["ok"]
    assert (await sockets[0].ask("detach", session=sid))["ok"]
    await sockets[1].ws.send_json({"type": "ping"})
    assert await sockets[1].next() == {"type": "pong"}
    async with http.ws_connect(nodes[1].url("/v1/ws"), headers=bearer("bob")) as ws:
        assert (await Socket(ws).ask("pause", session=sid))["error"]["code"] == "not_found"
    stepped.finish()
    for ws in ends:
        await ws.close()


@pytest.mark.parametrize("kind", ["start", "attach", "pause", "resume", "abort", "auth"])
async def test_commands_are_requests_of_their_address(make_node, http, kind):
    node = await make_node({"paced": sources.paced}, keys=LINES, max_requests=3)
    client = {"X-Forwarded-For": "203.0.113.9"}
    known = {} if kind == "auth" else bearer("alice")
    async with http.ws_connect(node.url("/v1/ws"), headers=client | known) as ws:
        fields = {"prompt": "x"} if kind == "start" else {"session": "s" * 32}
        asked = [await Socket(ws).ask(kind, **fields) for _ in range(7)]
        codes = [reply.get("error", {}).get("code") for reply in asked]
        assert "rate_limited" in codes[:4]
        await ws.send_json({"type": "ping"})
    async with http.get(node.url("/v1/models"), headers=bearer("bob")) as response:
        assert response.status == 200


async def test_a_chats_requests_are_counted_too(make_node, http):
    node = await make_node({"paced": sources.paced}, keys=LINES, max_requests=3)
    async with http.ws_connect(node.url("/api/chat/ws"), headers=bearer("alice")) as ws:
        told = []
        for place in count():
            await ws.send_json({"type": "resume", "id": "c", "requestId": str(place)})
            told.append(answer := await ws.receive_json(timeout=HANG))
            if answer["type"] == "error":
                break
    assert told[-1]["errorText"] == "You may send 3 requests a minute."
    assert {answer["type"] for answer in told[:-1]} == {"no-active"}
