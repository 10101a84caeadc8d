"""How much anybody may have and ask; who asks for more is told what, and when to come back."""

import asyncio
import time
from contextlib import AsyncExitStack

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import RateLimited
from server.ops import limits
from server.ops.limits import Addresses, Bucket
from server.session import ledger
from server.session.memory import taken
from server.session.state import Spec
from tests import sources
from tests.clients import Socket, collect, sse, start
from tests.redis_groups import RedisCluster
from tests.security.people import KEYS, LINES, bearer
from tests.waiting import HANG, until

PROXIES = ("127.0.0.0/8", "::1", "10.0.0.1")
ALLOWED = "https://app.example"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.7", None, "198.51.100.7"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("127.0.0.1", None, None),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9, 10.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9,10.0.0.1, 127.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "nonsense", None),
        ("127.0.0.1", "203.0.113.9, nonsense", None),
        ("127.0.0.1", ",", None),
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", None, "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", None, "198.51.100.7"),
        ("fe80::1%eth0", None, "fe80::/64"),
        ("::1", "2001:db8::1", "2001:db8::/64"),
        (None, "203.0.113.9", None),
        ("", None, None),
    ],
)
def test_an_address_is_what_a_trusted_proxy_says(peer, forwarded, address):
    assert Addresses(PROXIES, 1, 1).of(peer, forwarded) == address


def test_connections_of_one_address_are_counted_and_forgotten():
    addresses = Addresses(PROXIES, 2, 100)
    stays = [addresses.enter(n, "198.51.100.7") for n in range(6)]
    assert stays == [True, True, True, True, False, False]
    assert [addresses.is_over(n) for n in range(4)] == [False, False, True, True]
    with pytest.raises(RateLimited, match="2 connections of one address"):
        addresses.request(2, None)
    assert addresses.enter("other", "198.51.100.8")
    assert not addresses.is_over("other")
    for n in (*range(6), 0):
        addresses.leave(n)
    assert addresses.enter("again", "198.51.100.7")
    assert not addresses.is_over("again")
    assert all(addresses.enter(("proxied", n), "127.0.0.1") for n in range(100))


def test_behind_a_proxy_open_requests_of_one_address_are_counted():
    addresses = Addresses(PROXIES, 2, 100)
    for n in range(9):
        addresses.enter(n, "127.0.0.1")
    with addresses.request(0, "203.0.113.9"), addresses.request(1, "203.0.113.9"):
        with (
            pytest.raises(RateLimited, match="2 open requests of one address"),
            addresses.request(2, "203.0.113.9"),
        ):
            pass
        with addresses.request(3, "203.0.113.10"), addresses.request(4, None):
            pass
    with addresses.request(5, "203.0.113.9"), addresses.request(6, "203.0.113.9"):
        pass


def test_what_is_counted_as_a_connection_is_not_counted_again():
    addresses = Addresses(PROXIES, 1, 100)
    addresses.enter("only", "198.51.100.7")
    with addresses.request("only", "198.51.100.7"):
        pass


def test_all_connections_together_are_counted():
    addresses = Addresses(PROXIES, 1000, 100, everybody=40)
    assert [addresses.enter(n, "127.0.0.1") for n in range(44)] == [True] * 42 + [False] * 2
    assert [n for n in range(44) if addresses.is_over(n)] == [40, 41, 42, 43]
    with pytest.raises(RateLimited, match="40 connections at most"):
        addresses.request(41, None)
    for n in range(4):
        addresses.leave(n + 40)
    addresses.leave(0)
    assert addresses.enter("next", "127.0.0.1")
    assert not addresses.is_over("next")


@given(sizes=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1 << 50)), max_size=20))
def test_the_sum_of_sizes_is_that_of_the_last_of_each(shared_redis, sizes):
    client = shared_redis.client()
    spec = Spec("m", int(time.time() * 1000), None, 1, None, 0, 1, principal="p")
    for sid, size in sizes:
        (note,) = ledger.renewed(sid, spec, 1, size, over=False)
        for command in note.commands():
            client.execute_command(*command)
    (*_, key) = {command[3] for command in note.commands() if command[0] == "EVAL"} if sizes else {""}
    kept = {sid.decode(): int(size) for sid, size in client.hgetall(key).items()}
    assert (kept.pop("", 0), kept) == (sum(dict(sizes).values()), dict(sizes))
    assert not sizes or 0 < client.ttl(key) <= 7200
    client.delete(key, *client.keys("tw:{who:*"))
    client.close()


@pytest.mark.parametrize(
    ("info", "part"),
    [
        (b"# Memory\r\nused_memory:90\r\nmaxmemory:100\r\n", 0.9),
        (b"used_memory:90\r\nmaxmemory:100\r\nmem_not_counted_for_evict:40\r\n", 0.5),
        (b"used_memory:90\r\nmaxmemory:0\r\n", 0),
        (b"", 0),
    ],
)
def test_how_full_a_redis_is(info, part):
    assert taken(info) == part


def test_requests_of_one_address_are_counted_by_the_minute(monkeypatch):
    now = 600.0
    monkeypatch.setattr(limits.time, "time", lambda: now)
    addresses = Addresses(PROXIES, 1, 3)
    for _ in range(3):
        addresses.request(None, "198.51.100.7")
    addresses.request(None, "198.51.100.8")
    addresses.request(None, None)
    now = 615.0
    with pytest.raises(RateLimited) as refused:
        addresses.request(None, "198.51.100.7")
    assert refused.value.retry_after == 45
    now = 660.0
    addresses.request(None, "198.51.100.7")


def test_a_bucket_fills_by_the_clock(monkeypatch):
    now = 0.0
    monkeypatch.setattr(limits.time, "monotonic", lambda: now)
    bucket = Bucket(60)
    for _ in range(60):
        bucket.take()
    with pytest.raises(RateLimited) as refused:
        bucket.take()
    assert refused.value.retry_after == 1
    now = 2.0
    bucket.take()
    bucket.take()
    with pytest.raises(RateLimited):
        bucket.take()


async def refusal(response) -> tuple[int, str, int]:
    """Return a refusal's status, code, and seconds to wait."""
    body = orjson.loads(await response.read())["error"]
    assert body["retry_after"] <= int(response.headers["Retry-After"]) < body["retry_after"] + 1
    return response.status, body["code"], int(response.headers["Retry-After"])


async def post(http, node, who: str, path: str = "/v1/sessions", **body):
    return await http.post(node.url(path), json={"prompt": "x"} | body, headers=bearer(who))


async def two(make_node, **settings):
    """Two nodes with one Redis: what is counted is counted on both."""
    upstream = {"stepped": sources.Stepped()}
    return [await make_node(upstream, keys=LINES, **settings) for _ in range(2)]


async def test_a_principal_runs_so_many_sessions_on_all_nodes(make_node, http):
    one, other = await two(make_node, max_running=2)
    sids = []
    for node in (one, other):
        async with await post(http, node, "alice") as response:
            sids.append((await response.json())["id"])
    for node in (one, other):
        async with await post(http, node, "alice") as response:
            assert (await refusal(response))[:2] == (429, "rate_limited")
    async with await post(http, one, "bob") as response:
        assert response.status == 201
    async with http.ws_connect(one.url("/v1/ws"), headers=bearer("alice")) as ws:
        refused = await Socket(ws).ask("start", prompt="x")
        assert (refused["error"]["code"], refused["error"]["retry_after"]) == ("rate_limited", 5.0)
    # An EventSource would never come back after a 429.
    url = one.url("/v1/stream?prompt=x")
    async with http.get(url, headers=bearer("alice") | {"Accept": "text/event-stream"}) as response:
        lines = (await response.text()).splitlines()
        assert (response.status, lines[1].startswith(": rate_limited: You may have 2 running")) == (
            200,
            True,
        )
        assert 5000 <= int(lines[0].removeprefix("retry: ")) <= 7500
    async with await post(http, other, "alice", f"/v1/sessions/{sids[0]}/abort") as response:
        assert response.status == 200
    async with asyncio.timeout(HANG):
        while (response := await post(http, other, "alice")).status != 201:
            response.release()
            await asyncio.sleep(0.05)
    response.release()


async def test_a_start_that_is_asked_for_again_takes_no_place(make_node, http):
    one, other = await two(make_node, max_running=1)
    again = bearer("alice") | {"Idempotency-Key": "k"}

    async def asked(node, headers, **body) -> tuple[int, str]:
        body = {"prompt": "x", "model": "stepped"} | body
        async with http.post(node.url("/v1/sessions"), json=body, headers=headers) as response:
            return response.status, (await response.json()).get("id")

    status, sid = await asked(one, again)
    assert status == 201
    for node in (one, other):  # while it runs
        assert await asked(node, again) == (200, sid)
        assert (await asked(node, bearer("alice")))[0] == 429
    async with await post(http, one, "alice", f"/v1/sessions/{sid}/abort") as response:
        assert response.status == 200
    async with asyncio.timeout(HANG):
        while (await asked(other, bearer("alice")))[0] != 201:
            await asyncio.sleep(0.05)
    for node in (one, other):  # when it is over, and another one has its place
        assert await asked(node, again) == (200, sid)
        assert (await asked(node, bearer("alice")))[0] == 429


async def test_a_pause_of_what_is_over_takes_no_place(make_node, http):
    node = await make_node({"paced": sources.paced}, keys=LINES, max_paused=1)
    for _ in range(3):
        sid = await _started(http, node, "alice", tokens=1)
        events = node.url(f"/v1/sessions/{sid}/events?stream=text")
        async with http.get(events, headers=bearer("alice")) as response:
            await response.read()
        async with await post(http, node, "alice", f"/v1/sessions/{sid}/pause") as response:
            assert (response.status, (await response.json())["paused"]) == (200, False)


@pytest.mark.parametrize(
    ("options", "settings"),
    [({"orphan_ttl": 0}, {}), ({}, {"max_seconds": 1})],
    ids=["orphaned", "limit"],
)
async def test_a_pause_ends_with_its_session(make_node, http, options, settings):
    node = await make_node({"stepped": sources.Stepped()}, keys=LINES, max_paused=1, **settings)
    for _ in range(2):
        sid = await _started(http, node, "alice", session=options)
        events = node.url(f"/v1/sessions/{sid}/events?stream=ndjson")
        async with http.get(events, headers=bearer("alice")) as response, asyncio.timeout(HANG):
            assert response.status == 200
            while (paused := await post(http, node, "alice", f"/v1/sessions/{sid}/pause")).status == 429:
                paused.release()
                await asyncio.sleep(0.05)
            assert (await paused.json())["paused"]
        async with asyncio.timeout(HANG):
            while (await _status(http, node, sid)) != "aborted":
                await asyncio.sleep(0.05)


async def _status(http, node, sid: str) -> str:
    async with http.get(node.url(f"/v1/sessions/{sid}"), headers=bearer("alice")) as response:
        return (await response.json())["status"]


async def test_a_principal_pauses_so_many_sessions(make_node, http):
    one, other = await two(make_node, max_paused=1)
    first, second = [await _started(http, one, "alice") for _ in range(2)]
    for again in (one, other):
        async with await post(http, again, "alice", f"/v1/sessions/{first}/pause") as response:
            assert response.status == 200
    async with await post(http, other, "alice", f"/v1/sessions/{second}/pause") as response:
        assert (await refusal(response))[:2] == (429, "rate_limited")
    async with await post(http, one, "alice", f"/v1/sessions/{first}/resume") as response:
        assert response.status == 200
    async with await post(http, other, "alice", f"/v1/sessions/{second}/pause") as response:
        assert response.status == 200


async def _started(http, node, who: str, **body) -> str:
    async with await post(http, node, who, **body) as response:
        assert response.status == 201, await response.text()
        return (await response.json())["id"]


async def test_a_pause_ends_with_its_node(make_process, http):
    doomed, node = [
        await make_process(model="demo", keys=",".join(LINES), max_paused=1, lease=1) for _ in range(2)
    ]
    for place in (doomed, node):
        sid = await _started(http, place, "alice", tokens=10_000, rate=100)
        async with await post(http, place, "alice", f"/v1/sessions/{sid}/pause") as response:
            assert (await response.json())["paused"]
        if place is doomed:
            await doomed.end()
            async with asyncio.timeout(HANG):
                while (await _status(http, node, sid)) != "error":
                    await asyncio.sleep(0.05)


async def test_a_principals_bytes_are_counted_on_all_nodes(make_node, http):
    nodes = [await make_node({"paced": sources.paced}, keys=LINES, max_stored=5000) for _ in range(2)]
    sid = await _started(http, nodes[0], "alice", tokens=200)
    url = nodes[0].url(f"/v1/sessions/{sid}/events?stream=text")
    async with http.get(url, headers=bearer("alice")) as response:
        assert len(await response.read()) > 5000
    async with asyncio.timeout(HANG):
        while (response := await post(http, nodes[1], "alice")).status != 429:
            response.release()
            await asyncio.sleep(0.05)
    status, code, wait = await refusal(response)
    assert (status, code, 0 < wait <= 3600) == (429, "rate_limited", True)
    async with await post(http, nodes[1], "bob") as response:
        assert response.status == 201


async def test_a_principal_sends_so_many_requests_a_minute_to_all_nodes(make_node, http):
    one, other = await two(make_node, max_requests=6)
    statuses = []
    for _ in range(7):  # more than one minute's, whenever the next one begins
        for node in (one, other):
            async with http.get(node.url("/v1/models"), headers=bearer("alice")) as response:
                statuses.append(response.status)
    assert set(statuses) == {200, 429}
    async with http.get(one.url("/v1/models"), headers=bearer("bob")) as response:
        assert response.status == 200


async def test_an_address_sends_so_many_requests_a_minute(make_node, http):
    node = await make_node({"paced": sources.paced}, max_requests=3)
    client = {"X-Forwarded-For": "203.0.113.9"}
    responses = [await http.get(node.url("/v1/models"), headers=client) for _ in range(7)]
    late = next(response for response in responses if response.status != 200)
    assert (await refusal(late))[:2] == (429, "rate_limited")
    for response in responses:
        response.release()
    async with http.get(node.url("/v1/models"), headers={"X-Forwarded-For": "203.0.113.10"}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("OPTIONS", "/v1/sessions", {"Access-Control-Request-Method": "POST"}, 403),
        ("OPTIONS", "/v1/sessions", {"Access-Control-Request-Method": "POST", "Origin": ALLOWED}, 204),
        ("GET", "/v1/models", {"Host": "elsewhere.example"}, 403),
        ("POST", "/v1/sessions", {"Origin": "https://elsewhere.example"}, 403),
        ("GET", "/nothing/here", {}, 404),
    ],
)
async def test_what_is_refused_is_counted_too(make_node, http, method, path, headers, status):
    node = await make_node(max_requests=3, allow_origin=(ALLOWED,))
    statuses = []
    for _ in range(7):  # more than one minute's, whenever the next one begins
        client = {"X-Forwarded-For": "203.0.113.9"} | headers
        async with http.request(method, node.url(path), headers=client) as response:
            statuses.append(response.status)
    assert set(statuses) == {status, 429}


async def test_one_address_has_so_many_open_streams_behind_a_proxy(make_node, http):
    node = await make_node({"stepped": sources.Stepped()}, max_connections=3)
    sid = await start(http, node)
    url, client = node.url(f"/v1/sessions/{sid}/events"), {"X-Forwarded-For": "203.0.113.9"}
    async with AsyncExitStack() as streams:
        for _ in range(3):
            stream = await streams.enter_async_context(http.get(url, headers=client))
            assert (stream.status, stream.headers.get("Transfer-Encoding")) == (200, "chunked")
        async with http.get(f"{url}?stream=ndjson", headers=client) as response:
            assert await refusal(response) == (429, "rate_limited", 5)
        async with http.get(url, headers=client) as response:
            text = await response.text()
            said = ": rate_limited: There may be 3 open requests of one address at most.\n\n"
            assert (response.status, text.startswith("retry: "), text.endswith(said)) == (200, True, True)
        async with http.ws_connect(node.url("/v1/ws"), headers=client) as ws:
            assert (await ws.receive(HANG)).type is aiohttp.WSMsgType.CLOSE
            assert ws.close_code == 4429
        other = {"X-Forwarded-For": "203.0.113.10"}
        async with http.get(f"{url}?stream=ndjson", headers=other) as response:
            assert response.status == 200
            response.close()
    async with asyncio.timeout(HANG):
        while (response := await http.get(f"{url}?stream=ndjson", headers=client)).status != 200:
            response.release()
            await asyncio.sleep(0.02)
    response.close()


async def test_nothing_new_begins_when_redis_is_nearly_full(make_node, own_redis, http):
    node = await make_node({"paced": sources.paced}, redis_url=own_redis.url)
    running = await start(http, node, tokens=50, rate=50)
    key = {"Idempotency-Key": "k"}
    async with http.post(node.url("/v1/sessions"), json={"prompt": "x"}, headers=key) as response:
        assert response.status == 201
    client = own_redis.client()
    client.config_set("maxmemory", client.info("memory")["used_memory"] * 100 // 95)
    await until(lambda: node.node.levels().full > 0.9)
    async with http.post(node.url("/v1/sessions"), json={"prompt": "x"}) as response:
        assert await refusal(response) == (429, "rate_limited", 5)
    async with http.post(node.url("/v1/sessions"), json={"prompt": "x"}, headers=key) as response:
        assert response.status == 200
    # What runs is none of that.
    assert (await collect(sse(http, node, running)))[-1]["type"] == "done"
    client.config_set("maxmemory", 0)
    client.close()
    await until(lambda: node.node.levels().full == 0)
    assert await start(http, node)


@pytest.fixture
def cluster(tmp_path):
    with RedisCluster(tmp_path, replicas=0) as servers:
        yield servers


async def test_of_a_cluster_the_fullest_master_counts(cluster, make_node):
    node = await make_node({"paced": sources.paced}, redis_url=cluster.url)
    for master in cluster.members:
        await until(lambda: node.node.levels().full == 0)
        master.client.config_set("maxmemory", master.client.info("memory")["used_memory"] * 100 // 95)
        await until(lambda: node.node.levels().full > 0.9)
        master.client.config_set("maxmemory", 0)


async def test_a_principal_has_so_many_open_requests(make_node, http):
    node = await make_node({"stepped": sources.Stepped()}, keys=LINES, max_streams=3)
    sid = await _started(http, node, "alice")
    url, alice = node.url(f"/v1/sessions/{sid}/events"), bearer("alice")
    async with AsyncExitStack() as streams:
        for _ in range(3):
            response = await streams.enter_async_context(http.get(url, headers=alice))
            assert response.headers.get("Transfer-Encoding") == "chunked"
        async with http.get(url, headers=alice) as response:
            said = ": rate_limited: You may have 3 open requests.\n\n"
            assert (await response.text()).endswith(said)
        async with http.get(f"{url}?stream=ndjson", headers=alice) as response:
            assert await refusal(response) == (429, "rate_limited", 5)
        async with http.ws_connect(node.url("/v1/ws"), headers=alice) as ws:
            assert (await ws.receive(HANG)).type is aiohttp.WSMsgType.CLOSE
            assert ws.close_code == 4429
        async with http.ws_connect(node.url("/v1/ws")) as ws:
            refused = await Socket(ws).ask("auth", token=KEYS["alice"])
            assert refused["error"]["code"] == "rate_limited"
            assert (await Socket(ws).ask("auth", token=KEYS["bob"]))["ok"]
        async with http.get(node.url("/v1/models"), headers=bearer("bob")) as response:
            assert response.status == 200
    async with asyncio.timeout(HANG):
        while (response := await http.get(f"{url}?stream=ndjson", headers=alice)).status != 200:
            response.release()
            await asyncio.sleep(0.02)
    response.close()


async def test_a_session_has_so_many_viewers(make_node, http):
    node = await make_node({"stepped": sources.Stepped()}, max_viewers=2)
    sid = await start(http, node)
    url = node.url(f"/v1/sessions/{sid}/events?stream=ndjson")
    async with http.get(url) as first, http.get(url) as second:
        assert (first.status, second.status) == (200, 200)
        async with http.get(url) as third:
            assert await refusal(third) == (429, "rate_limited", 5)


async def test_a_socket_sends_so_many_commands_and_a_flood_ends_it(make_node, http):
    node = await make_node({"paced": sources.paced}, max_commands=5)
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        codes = []
        while (message := await _said(ws)) is not None:
            codes.append(message.get("error", {}).get("code", message["type"]))
        assert codes[:5] == ["pong"] * 5
        assert set(codes[6:]) == {"rate_limited"}
        assert 100 <= len(codes) <= 120
        assert ws.close_code == 4429


async def _said(ws) -> dict | None:
    await ws.send_str('{"type":"ping"}')
    message = await ws.receive(HANG)
    return orjson.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else None
