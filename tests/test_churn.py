"""Nothing of a session stays once it is over and its last reader has gone, however that went."""

import asyncio
import gc
from collections import Counter

import aiohttp
import pytest

from tests import clients, sources
from tests.clients import Socket, collect, control, start
from tests.waiting import until

SESSIONS = 40
OURS = {
    "server.session.appender.Appender",
    "server.session.follower.Follower",
    "server.session.log.Log",
    "server.session.producer.Producer",
    "server.session.tail.Tail",
    "server.session.viewer.Viewer",
    "server.transport.ws.Socket",
}


@pytest.fixture
async def http():
    """A client that keeps no connection: it lives in the same process as the nodes."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


def there() -> Counter[str]:
    """Count what is there of a session's and a connection's own."""
    types = Counter(map(type, gc.get_objects()))
    names = {t: f"{t.__module__}.{t.__qualname__}" for t in types}
    return Counter({name: types[t] for t, name in names.items() if name in OURS})


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


async def test_what_is_over_goes_at_once_and_not_when_the_collector_comes_by(
    make_node, http, monkeypatch
):
    monkeypatch.setattr("server.session.hub.IDLE", 0.1)
    nodes = [await make_node({"paced": sources.paced}, linger=0.1) for _ in range(2)]
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await _churn(http, nodes)
            # The one that a node's clock has looked at last it forgets when it looks at the next one.
            await until(lambda: max(there().values(), default=0) <= len(nodes))
    finally:
        gc.enable()
