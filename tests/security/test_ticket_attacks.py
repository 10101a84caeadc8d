"""A ticket opens one session, for one purpose, for a while, on every node; and nothing else."""

import asyncio
import time

import aiohttp
import orjson
import pytest

from server.callers import Right
from server.ops.tickets import LEEWAY
from tests import sources
from tests.clients import Socket
from tests.security.people import LINES, SECRET, bearer, signed, ticket
from tests.waiting import HANG

OTHER = "o" * 32


async def issue(house, http, who: str = "alice", **body) -> dict:
    async with http.post(house.url("/tickets"), json=body, headers=bearer(who)) as response:
        assert response.status == 201, await response.text()
        return await response.json()


async def status(http, url: str, method: str = "GET", **how) -> int:
    async with http.request(method, url, **how) as response:
        return response.status


async def test_a_ticket_reads_its_session_on_every_node(house, make_node, http):
    told = await issue(house, http)
    assert told["rights"] == ["read"]
    other = await make_node({"stepped": sources.Stepped()}, keys=LINES, secret=SECRET)
    house.source.step("one", "two")
    for node in (house.node, other):
        async with http.get(node.url(told["url"])) as stream:
            assert stream.status == 200
            while b'"two"' not in (line := await stream.content.readline()):
                assert line


async def test_a_browser_comes_back_with_its_ticket_after_its_time(house, http, redis_server):
    old = ticket(house.sid, at=time.time() - 300)
    url = house.url(f"/events?ticket={signed(old)}")
    assert await status(http, url) == 401
    redis = redis_server.client()
    redis.set(f"tw:{{t:{old.id}}}", b"", ex=5)
    async with http.get(url) as stream:
        assert stream.status == 200
        assert 55 <= redis.ttl(f"tw:{{t:{old.id}}}") <= 60
    redis.delete(f"tw:{{t:{old.id}}}")
    assert await status(http, url) == 401
    redis.close()


async def test_a_ticket_is_in_use_for_as_long_as_somebody_follows(house, http, redis_server, monkeypatch):
    monkeypatch.setattr("server.transport.doors.LOOK", 0.02)
    redis, fresh = redis_server.client(), ticket(house.sid, at=time.time())
    house.node.access.doors._period = 0.02
    async with http.get(house.url(f"/events?ticket={signed(fresh)}")):
        key = f"tw:{{t:{fresh.id}}}"
        assert redis.delete(key) == 1
        async with asyncio.timeout(HANG):
            while not redis.exists(key):
                await asyncio.sleep(0.01)
    redis.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/sessions/{sid}", 200),
        (f"/v1/sessions/{OTHER}", 404),
        (f"/v1/sessions/{OTHER}/events", 404),
        ("/v1/sessions/{sid}/events?after=x", 400),
        ("/v1/sessions", 403),
        ("/nowhere", 404),
    ],
)
async def test_a_use_that_follows_nothing_keeps_no_ticket(house, http, path, expected):
    fresh = ticket(house.sid, at=time.time())
    url = house.node.url(path.format(sid=house.sid))
    for text in (signed(fresh), signed(fresh)):
        assert await status(http, f"{url}{'&' if '?' in url else '?'}ticket={text}") == expected
    look(house)
    assert not await house.node.access._ledger.in_use(fresh.id)


def look(house) -> None:
    """Look at all that is open as if it had been there for long."""
    doors = house.node.access.doors
    for door in tuple(doors._doors):
        doors._look(door, door.renewed + doors._period)


async def test_a_socket_keeps_its_ticket_while_it_is_attached(house, http, redis_server):
    fresh, redis = ticket(house.sid, at=time.time()), redis_server.client()
    found = []

    async def used() -> None:
        look(house)
        found.append(await house.node.access._ledger.in_use(fresh.id))
        redis.delete(f"tw:{{t:{fresh.id}}}")

    async with http.ws_connect(house.node.url(f"/v1/ws?ticket={signed(fresh)}")) as ws:
        socket = Socket(ws)
        assert (await socket.ask("attach", session=OTHER))["error"]["code"] == "not_found"
        await used()
        for command in ("attach", "detach"):
            assert (await socket.ask(command, session=house.sid))["ok"]
            await used()
    redis.close()
    assert found == [False, True, False]


async def test_nodes_clocks_may_differ(house, http):
    """A ticket is new for its `ttl`, and as long again as a node's clock may be ahead."""
    for late, expected in ((LEEWAY - 10, 200), (LEEWAY + 10, 401)):
        text = signed(ticket(house.sid, at=time.time() - 60 - late, ttl=60))
        assert await status(http, house.url(f"?ticket={text}")) == expected


async def test_a_ticket_is_over_after_an_hour_even_if_it_is_in_use(house, http, redis_server):
    over = ticket(house.sid, at=time.time() - 3601, ttl=3600)
    redis = redis_server.client()
    redis.set(f"tw:{{t:{over.id}}}", b"", ex=5)
    redis.close()
    assert await status(http, house.url(f"/events?ticket={signed(over)}")) == 401


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", f"/v1/sessions/{OTHER}/events", 404),
        ("GET", f"/v1/sessions/{OTHER}", 404),
        ("GET", "/v1/sessions", 403),
        ("GET", "/v1/stream?prompt=x", 403),
        ("POST", "/v1/sessions", 401),
        ("POST", "/v1/sessions/{sid}/pause", 401),
        ("POST", "/v1/sessions/{sid}/abort", 401),
        ("POST", "/v1/sessions/{sid}/tickets", 401),
        ("DELETE", "/v1/sessions/{sid}", 401),
        ("GET", "/v1/sessions/{sid}", 200),
    ],
)
async def test_a_ticket_opens_nothing_else(house, http, method, path, expected):
    text = signed(ticket(house.sid, Right.READ, Right.CONTROL, at=time.time()))
    url = house.node.url(path.format(sid=house.sid))
    joined = f"{url}{'&' if '?' in url else '?'}ticket={text}"
    assert await status(http, joined, method, **({"json": {}} if method == "POST" else {})) == expected


async def test_a_ticket_of_one_session_is_none_of_another_of_the_same_principal(house, http):
    async with http.post(
        house.node.url("/v1/sessions"), json={"prompt": "x"}, headers=bearer("alice")
    ) as response:
        second = (await response.json())["id"]
    text = signed(ticket(house.sid, Right.READ, Right.CONTROL, at=time.time()))
    assert await status(http, house.node.url(f"/v1/sessions/{second}/events?ticket={text}")) == 404
    async with http.ws_connect(house.node.url(f"/v1/ws?ticket={text}")) as ws:
        socket = Socket(ws)
        for command in ("attach", "pause", "abort"):
            assert (await socket.ask(command, session=second))["error"]["code"] == "not_found"
        assert (await socket.ask("start", prompt="x"))["error"]["code"] == "forbidden"
        assert (await socket.ask("pause", session=house.sid))["ok"]


async def test_a_reading_ticket_does_not_steer(house, http):
    text = signed(ticket(house.sid, at=time.time()))
    async with http.ws_connect(house.url(f"/ws?ticket={text}")) as ws:
        socket = Socket(ws)
        for command in ("pause", "resume", "abort"):
            assert (await socket.ask(command, session=house.sid))["error"]["code"] == "forbidden"


CHANGES = {
    "cut": lambda text: text[:-2],
    "longer": lambda text: text + "A",
    "another version": lambda text: text.replace("t1.", "t2."),
    "none": lambda _: "",
    "dots": lambda _: "t1..",
    "capitals": lambda text: text.upper(),
    "two": lambda text: f"{text},{text}",
    "not ASCII": lambda _: "é" * 50,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_changed_ticket_is_none(house, http, change):
    text = change(signed(ticket(house.sid, at=time.time())))
    assert await status(http, house.url("/events"), params={"ticket": text}) == 401


async def test_a_ticket_under_another_secret_is_none(house, http):
    text = signed(ticket(house.sid, at=time.time()), "x" * 32)
    assert await status(http, house.url(f"/events?ticket={text}")) == 401


async def test_a_ticket_is_over_with_the_key_that_it_was_issued_for(make_node, house, http):
    without = await make_node({"stepped": sources.Stepped()}, keys=LINES[1:], secret=SECRET)
    text = signed(ticket(house.sid, at=time.time()))
    assert await status(http, without.url(f"/v1/sessions/{house.sid}/events?ticket={text}")) == 401


@pytest.mark.parametrize(
    "body",
    [
        {"rights": ["create"]},
        {"rights": ["admin"]},
        {"rights": ["root"]},
        {"rights": []},
        {"rights": "read"},
        {"rights": ["read", "read"]},
        {"rights": ["read", "control", "read"]},
        {"rights": ["read"] * 100_000},
        {"ttl": 0},
        {"ttl": 1e9},
        {"ttl": "1"},
        {"session": OTHER},
    ],
    ids=lambda body: repr(body)[:40],
)
async def test_a_ticket_is_asked_for_strictly(house, http, body):
    assert await status(http, house.url("/tickets"), "POST", json=body, headers=bearer("alice")) == 400


async def test_a_socket_takes_its_ticket_as_a_protocol_and_as_its_first_message(house, http):
    text = signed(ticket(house.sid, Right.READ, at=time.time()))
    offered = ("tokenwire.v1", f"ticket.{text}")
    async with http.ws_connect(house.url("/ws"), protocols=offered) as ws:
        assert ws.protocol == "tokenwire.v1"
        assert orjson.loads((await ws.receive(HANG)).data)["type"] == "session"
    async with http.ws_connect(house.node.url("/v1/ws")) as ws:
        socket = Socket(ws)
        assert (await socket.ask("auth", ticket=text + "x"))["error"]["code"] == "unauthorized"
        assert (await socket.ask("auth", ticket=text))["ok"]
        assert (await socket.ask("attach", session=house.sid))["ok"]
    async with http.ws_connect(house.url("/ws"), protocols=("tokenwire.v1", "ticket.x")) as ws:
        assert (await ws.receive(HANG)).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 4401
