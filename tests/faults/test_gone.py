"""A session that goes while it is read, without an end: each reader is told, and does not wait (C11)."""

import asyncio
import signal

import aiohttp
import pytest

from tests import clients
from tests.clients import Socket, collect, start
from tests.waiting import HANG


@pytest.fixture
async def going(make_process, redis_server, http):
    """A session, the node on which it is read, and what makes it go, with its producer."""
    doomed, node = [await make_process() for _ in range(2)]
    sid = await start(http, doomed, prompt="g", rate=50, tokens=5000)

    def go():
        doomed.signal(signal.SIGKILL)
        client = redis_server.client()
        client.flushall()
        client.close()

    return sid, node, go


async def _is_gone(http, node, sid):
    for path in ("", "/events"):
        async with http.get(node.url(f"/v1/sessions/{sid}{path}")) as response:
            assert response.status in (404, 410)


@pytest.mark.parametrize("form", ["sse", "ndjson"])
async def test_a_stream_ends_and_its_client_that_comes_again_is_told(going, http, form):
    sid, node, go = going
    stream = clients.sse(http, node, sid) if form == "sse" else clients.ndjson(http, node, sid)
    seen = await collect(stream, count=10)
    go()
    seen += await asyncio.wait_for(collect(stream), HANG)
    assert "error" not in {event["type"] for event in seen}  # nobody knows how it would have ended
    await _is_gone(http, node, sid)


async def test_a_socket_about_it_is_closed(going, http):
    sid, node, go = going
    async with http.ws_connect(node.url(f"/v1/sessions/{sid}/ws")) as ws:
        await ws.receive_json()
        go()
        while (message := await ws.receive(HANG)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert message.data == 4410
    await _is_gone(http, node, sid)


async def test_a_socket_for_many_is_told_and_stays(going, http):
    sid, node, go = going
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        socket = Socket(ws)
        assert (await socket.ask("attach", session=sid))["ok"]
        go()
        while (item := await asyncio.wait_for(socket.next(), HANG))["type"] != "reset":
            pass
        assert item == {"session": sid, "type": "reset", "reason": "gone", "epoch": 0}
        reply = await socket.ask("attach", session=sid)
        assert reply["error"]["code"] in ("gone", "not_found")
