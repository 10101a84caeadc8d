"""Behind nginx: tokens come one by one, sockets work, and a lost node is no lost session."""

import asyncio
import signal
from contextlib import AsyncExitStack, suppress
from itertools import pairwise
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.clients import Item, Server, Socket, is_event, ndjson, seqs, sse, start, text_of, ws
from tests.ops.fleet import serving
from tests.ops.nginx import BINARY, Nginx
from tests.processes import Process, demo_text, serve, spawn_upstream
from tests.waiting import HANG, until

pytestmark = pytest.mark.skipif(BINARY is None, reason="needs nginx")

TOKENS, RATE = 60, 40
BUFFERING = {"proxy_buffering off;": "proxy_buffering on;"}


@pytest.fixture
async def nodes(make_process):
    """Two nodes, as processes."""
    return [await make_process(linger=5, drain=3, lease=2) for _ in range(2)]


@pytest.fixture
def proxy(tmp_path):
    """Put nginx in front of nodes."""
    running: list[Nginx] = []

    def make(nodes: list[Process], changes: dict[str, str] | None = None) -> Server:
        running.append(Nginx(tmp_path, [node.port for node in nodes], changes or {}))
        return Server(running[-1].port)

    yield make
    for nginx in running:
        nginx.end()


@pytest.mark.parametrize("read", [sse, ndjson, ws])
@pytest.mark.parametrize("changes", [{}, BUFFERING], ids=["buffering off", "buffering on"])
async def test_tokens_come_one_by_one(nodes, proxy, http, read, changes):
    server = proxy(nodes, changes)
    sid = await start(http, server, tokens=TOKENS, rate=RATE)
    times, events = [], []
    loop = asyncio.get_running_loop()
    async for item in read(http, server, sid):
        if is_event(item):
            times.append(loop.time())
            events.append(item)
    assert text_of(events) == await demo_text("x", TOKENS)
    # Held back, they would come in a few lumps.
    assert sum(later - earlier > 0.3 / RATE for earlier, later in pairwise(times)) > TOKENS / 4


async def test_a_socket_steers_through_it(nodes, proxy, http):
    server = proxy(nodes)
    async with http.ws_connect(server.url("/v1/ws")) as socket:
        client = Socket(socket)
        sid = (await client.ask("start", prompt="x", tokens=5000, rate=100))["session"]
        await client.until("content")
        assert (await client.ask("pause", session=sid))["paused"]
        answer = await client.ask("abort", session=sid)
        assert (answer["status"], answer["upstream_closed"]) == ("aborted", True)


async def test_idle_sockets_reach_no_node_and_keep_nobody_out(nodes, proxy, http):
    server = proxy(nodes, {"client_header_timeout 10s;": "client_header_timeout 1s;"})
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2000)]
    async with http.get(server.url("/v1/models")) as answer:
        assert answer.status == 200
    reached = [psutil.Process(node.process.pid).net_connections("tcp") for node in nodes]
    assert sum(c.status == psutil.CONN_ESTABLISHED for tcp in reached for c in tcp) <= 2
    async with asyncio.timeout(HANG):
        for reader, writer in opened:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "There may be 3 open requests of one address at most."),
        ({"limit_conn tokenwire 512;": "limit_conn tokenwire 3;"}, "too many connections"),
    ],
    ids=["the node's limit", "nginx's limit"],
)
async def test_one_address_has_so_many_open_streams(make_process, proxy, changes, words):
    limit = 1000 if changes else 3
    node = await make_process(trust_proxy="127.0.0.1", max_connections=limit)
    server = proxy([node], changes)
    mine, other = ("127.0.0.2", 0), ("127.0.0.3", 0)
    async with AsyncExitStack() as open_:
        clients = [
            await open_.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=address, limit=0))
            )
            for address in (mine, other)
        ]
        sid = await start(clients[1], server, tokens=5000, rate=20)
        url = server.url(f"/v1/sessions/{sid}/events")
        for _ in range(3):
            stream = await open_.enter_async_context(clients[0].get(f"{url}?stream=ndjson"))
            assert stream.status == 200
        async with clients[0].get(f"{url}?stream=ndjson") as refused:
            assert (refused.status, refused.content_type) == (429, "application/json")
            assert (await refused.json())["error"]["code"] == "rate_limited"
            assert int(refused.headers["Retry-After"]) >= 5
        async with clients[0].get(url, headers={"Accept": "text/event-stream"}) as refused:
            assert (refused.status, refused.content_type) == (200, "text/event-stream")
            text = await refused.text()
            assert (text.startswith("retry: "), words in text) == (True, True)
        async with clients[1].get(f"{url}?stream=ndjson") as stream:
            assert stream.status == 200
        stream.close()


async def test_neither_a_ticket_nor_a_prompt_is_in_its_logs(nodes, proxy, http, tmp_path):
    server = proxy(nodes)
    secrets = ("s3cret-prompt", "s3cret-ticket")
    urls = [server.url(f"/v1/stream?prompt={secrets[0]}&ticket={secrets[1]}")]
    urls.append(server.url(f"/v1/sessions/{'s' * 32}/ws?ticket={secrets[1]}"))
    headers = {"Referer": urls[0]}
    for url in urls:
        async with http.get(url, headers=headers) as answer:
            assert answer.status in (401, 404)
    for node in nodes:
        await node.end()
    for url in urls:
        async with http.get(url, headers=headers) as answer:
            assert answer.status == 502
    await until(lambda: len(_log(tmp_path, "tokenwire").splitlines()) == 4)
    told = _log(tmp_path, "tokenwire")
    assert told.split()[2:5] == ["GET", "/v1/stream", "401"]
    assert [secret for secret in secrets if secret in told + _log(tmp_path, "error")] == []


def _log(folder: Path, name: str) -> str:
    return (folder / f"{name}.log").read_text()


async def test_a_page_is_not_foreign_behind_it(nodes, proxy, http):
    server = proxy(nodes)
    url, body = server.url("/v1/sessions"), {"prompt": "x", "tokens": 1}
    for origin, status in ((server.url(""), 201), ("http://elsewhere.example", 403)):
        async with http.post(url, json=body, headers={"Origin": origin}) as answer:
            assert answer.status == status


async def test_a_request_has_the_name_that_nginx_gave_it(nodes, proxy, http):
    async with http.get(proxy(nodes).url("/v1/models")) as answer:
        assert len(answer.headers["X-Request-Id"]) == 32


class Follower:
    """Reads a session to the end as a browser would: with the last id, again and again."""

    def __init__(self, http: aiohttp.ClientSession, server: Server, sid: str) -> None:
        self.events: list[Item] = []
        self.task = asyncio.create_task(self._read(http, server, sid))

    async def _read(self, http: aiohttp.ClientSession, server: Server, sid: str) -> None:
        events = self.events
        while not events or events[-1]["type"] != "done":
            with suppress(OSError, aiohttp.ClientError, AssertionError):
                async for item in sse(http, server, sid, events[-1]["id"] if events else None):
                    events += [item] if is_event(item) else []
            await asyncio.sleep(0.05)


async def followed(http, server, sids: list[str]) -> list[Follower]:
    """Return two followers of each session, once all of them are in the middle of it."""
    followers = [Follower(http, server, sid) for sid in sids * 2]
    await until(lambda: all(len(follower.events) >= 10 for follower in followers))
    return followers


async def test_the_clients_of_a_killed_node_go_on_at_the_other(nodes, proxy, http):
    survivor, victim = nodes
    server = proxy(nodes)
    followers = await followed(
        http, server, [await start(http, survivor, tokens=120, rate=60) for _ in range(4)]
    )
    victim.signal(signal.SIGKILL)
    await asyncio.gather(*(follower.task for follower in followers))
    for follower in followers:
        assert text_of(follower.events) == await demo_text("x", 120)
        assert seqs(follower.events) == list(range(1, 122))


async def test_an_event_source_outlives_all_nodes(nodes, proxy, http):
    server = proxy(nodes)
    sid = await start(http, server, tokens=5000, rate=50)
    for node in nodes:
        await node.end()
    events = server.url(f"/v1/sessions/{sid}/events")
    async with http.get(events, headers={"Accept": "text/event-stream"}) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert (await answer.text()).startswith("retry: 2000\n")
    for url in (events, server.url("/")):
        async with http.get(url) as answer:
            assert answer.status == 502


async def test_what_a_model_server_answered_is_passed_on(redis_server, proxy, http):
    process, upstream = await spawn_upstream()
    node = await serve(redis_server.url, upstream=f"{upstream}/v1", model="m", drain=0)
    body = {"messages": [{"role": "user", "content": "x"}], "script": "failing", "status": 500}
    try:
        async with http.post(proxy([node]).url("/v1/chat/completions"), json=body) as answer:
            assert (answer.status, answer.content_type) == (500, "application/json")
    finally:
        await node.end()
        process.kill()
        await process.wait()


async def test_a_node_that_drains_refuses_nobody(nodes, proxy, http):
    leaving, _ = nodes
    server = proxy(nodes)
    await start(http, leaving, tokens=5000, rate=50)
    leaving.signal(signal.SIGTERM)
    while True:
        with suppress(OSError, aiohttp.ClientError):
            async with http.get(leaving.url("/readyz")) as answer:
                if answer.status == 503:
                    break
    count = 0
    while leaving.process.returncode is None:
        assert await start(http, server, tokens=1)
        count += 1
    assert count > 4


async def test_a_reload_is_not_felt_on_a_connection_that_is_kept_open(redis_server):
    crew = await serve(redis_server.url, workers=2, linger=5, drain=2, lease=2, max_requests=1_000_000)
    clients = [aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) for _ in range(8)]
    try:
        for client in clients:
            await start(client, crew, tokens=5000, rate=50)
        before = serving(crew)
        crew.signal(signal.SIGHUP)
        while serving(crew) & before:
            for client in clients:
                assert await start(client, crew, tokens=1)
    finally:
        for client in clients:
            await client.close()
        await crew.end()


async def test_a_reload_of_all_workers_loses_nobody(make_process, proxy, http):
    crew = await make_process(workers=2, linger=5, drain=6, lease=2)
    server = proxy([crew])
    sids = [await start(http, server, tokens=100, rate=50) for _ in range(4)]
    followers = await followed(http, server, sids)
    crew.signal(signal.SIGHUP)
    await asyncio.gather(*(follower.task for follower in followers))
    for follower in followers:
        assert text_of(follower.events) == await demo_text("x", 100)
        assert seqs(follower.events) == list(range(1, 102))
    crew.signal(signal.SIGTERM)
    assert await crew.process.wait() == 0
