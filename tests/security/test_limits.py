"""How much anybody may have and ask; who asks for more is told what, and when to come back."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import orjson
import pytest

from server.errors import RateLimited
from server.ops import limits
from server.ops.limits import Addresses, Bucket
from tests import sources
from tests.clients import Socket, start
from tests.security.people import KEYS, LINES, bearer
from tests.waiting import HANG

PROXIES = ("127.0.0.0/8", "::1", "10.0.0.1")


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
