"""Nothing of a session stays once it is over and its last reader has gone, however it went."""

import asyncio
import gc
from collections import Counter

import aiohttp
import pytest

from tests import clients, sources
from tests.clients import Socket, collect, start
from tests.faults.looking import control, until

SESSIONS = 40
KEPT = ("server.", "aiohttp.", "asyncio", "_asyncio")


@pytest.fixture
async def http():
    """A client that keeps no connection: it lives in the same process as the nodes."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


def held() -> Counter[str]:
    """Count what there is of ours, of the loop's and of aiohttp's."""
    gc.collect()
    types = Counter(map(type, gc.get_objects()))
    return Counter(
        {f"{t.__module__}.{t.__qualname__}": n for t, n in types.items() if t.__module__.startswith(KEPT)}
    )


async def _cut_sse(http, node, sid):
    events = await collect(clients.sse(http, node, sid), count=3)
    await collect(clients.sse(http, node, sid, after=events[-1]["id"]))


async def _cut_socket(http, node, sid):
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        await Socket(ws).ask("attach", session=sid)
        ws._response.connection.transport.abort()
    await collect(clients.ws(http, node, sid))


async def _aborted(http, node, sid):
    await control(http, node, sid, "pause")
    await control(http, node, sid, "abort")
    await collect(clients.sse(http, node, sid))


async def _whole(http, node, sid):
    await collect(clients.ndjson(http, node, sid))


WAYS = (_cut_sse, _cut_socket, _aborted, _whole)


async def _churn(http, nodes):
    async def one(at):
        sid = await start(http, nodes[0], prompt=f"c{at}", tokens=20, rate=200)
        await WAYS[at % len(WAYS)](http, nodes[at // len(WAYS) % 2], sid)

    await asyncio.gather(*map(one, range(SESSIONS)))


async def test_after_any_number_of_sessions_a_node_holds_what_it_held(make_node, http, monkeypatch):
    monkeypatch.setattr("server.session.hub.IDLE", 0.1)
    nodes = [await make_node({"paced": sources.paced}, linger=0.1) for _ in range(2)]
    await _churn(http, nodes)
    await until(lambda: held()["server.session.tail.Tail"] == 0)
    before = held()
    for _ in range(2):
        await _churn(http, nodes)
    await until(lambda: not held() - before)
