"""Attacks of somebody who is not who they would have to be: each is refused, and learns nothing."""

import inspect

import aiohttp
import orjson
import pytest

from server.callers import CALLER, NOBODY, Caller, Right
from server.errors import NotFound, Unauthorized
from server.session.node import Node
from server.session.state import Action
from server.upstream import Head
from tests.clients import Socket
from tests.security.people import KEYS, USER, bearer
from tests.waiting import HANG

UNKNOWN = "u" * 32
CALLS = [
    ("GET", ""),
    ("GET", "/events"),
    ("GET", "/events?stream=ndjson"),
    ("GET", "/events?stream=text"),
    ("GET", "/events?after=1-1"),
    ("GET", "/ws"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("POST", "/abort"),
    ("POST", "/tickets"),
    ("POST", "/events"),
    ("DELETE", ""),
]
COMMANDS = ["attach", "detach", "pause", "resume", "abort"]
ASKED = {"json": {"rights": ["read"]}}


async def answer(http, method: str, url: str, **how) -> tuple[int, dict, dict]:
    how = (ASKED if method == "POST" else {}) | how
    async with http.request(method, url, **how) as response:
        body = await response.read()
        headers = {
            k: v for k, v in response.headers.items() if k not in ("Date", "Server", "X-Request-ID")
        }
        return response.status, orjson.loads(body) if body else {}, headers


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_strangers_call_is_answered_as_for_an_unknown_session(house, http, method, path):
    theirs = await answer(http, method, house.url(path), headers=bearer("bob"))
    unknown = await answer(
        http, method, house.node.url(f"/v1/sessions/{UNKNOWN}{path}"), headers=bearer("bob")
    )
    assert theirs == unknown
    assert (theirs[0], theirs[1]["error"]["code"]) == (404, "not_found")
    assert (await answer(http, "GET", house.url(), headers=bearer("alice")))[1]["status"] == "running"


DIALECTS = [
    ("GET", "/v1/sessions/{sid}/raw"),
    ("GET", "/v1/sessions/{sid}/events?format=openai"),
    ("GET", "/v1/responses/resp_{sid}"),
    ("GET", "/v1/responses/resp_{sid}?stream=true"),
    ("POST", "/v1/responses/resp_{sid}/cancel"),
    ("DELETE", "/v1/responses/resp_{sid}"),
]


@pytest.mark.parametrize(("method", "path"), DIALECTS)
async def test_a_strangers_call_in_a_foreign_dialect_is_no_other(house, http, method, path):
    theirs, unknown = [
        await answer(http, method, house.node.url(path.format(sid=sid)), headers=bearer("bob"))
        for sid in (house.sid, UNKNOWN)
    ]
    assert theirs == unknown
    assert theirs[0] == 404
    assert (await answer(http, method, house.node.url(path.format(sid=house.sid))))[0] == 401
    assert (await answer(http, "GET", house.url(), headers=bearer("alice")))[1]["status"] == "running"


async def test_what_two_principals_name_alike_are_two_conversations(house, http):
    url, name = house.node.url("/v1/sessions"), house.node.url("/v1/conversations/c")
    ids = {}
    for who in ("alice", "bob"):
        body = {"prompt": "x", "session": {"conversation": "c"}}
        assert (await answer(http, "GET", name, headers=bearer(who)))[0] == 404
        ids[who] = (await answer(http, "POST", url, json=body, headers=bearer(who)))[1]["id"]
    for who in ("alice", "bob"):
        assert (await answer(http, "GET", name, headers=bearer(who)))[1]["id"] == ids[who]
    aborted = await answer(http, "POST", f"{name}/abort", headers=bearer("bob"))
    assert aborted[1]["session"] == ids["bob"]
    assert (await answer(http, "GET", name, headers=bearer("alice")))[1]["status"] == "running"


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_strangers_message_is_answered_as_for_an_unknown_session(house, http, command):
    async with http.ws_connect(house.node.url("/v1/ws"), headers=bearer("bob")) as ws:
        socket = Socket(ws)
        theirs = await socket.ask(command, session=house.sid)
        unknown = await socket.ask(command, session=UNKNOWN)
        assert theirs["error"] == unknown["error"]
        assert theirs["error"]["code"] == "not_found"


async def test_a_strangers_own_socket_is_closed_as_for_an_unknown_session(house, http):
    for sid in (house.sid, UNKNOWN):
        url = house.node.url(f"/v1/sessions/{sid}/ws")
        async with http.ws_connect(url, headers=bearer("bob")) as ws:
            assert (await ws.receive(HANG)).type is aiohttp.WSMsgType.CLOSE
            assert ws.close_code == 4404


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer tw_x"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": f"Token {KEYS['alice']}"},
        {"Cookie": "tokenwire=tw_x", "Sec-Fetch-Site": "same-origin"},
        {"X-Api-Key": KEYS["alice"]},
    ],
    ids=["none", "empty", "wrong", "basic", "scheme", "cookie", "header"],
)
async def test_without_credentials_there_is_nothing(house, http, method, path, headers):
    status, body, told = await answer(http, method, house.url(path), headers=headers)
    assert (status, body["error"]["code"], told["WWW-Authenticate"]) == (401, "unauthorized", "Bearer")


@pytest.mark.parametrize(("path", "status"), [
    ("/", 200), ("/app.js", 200), ("/inspect", 200), ("/healthz", 200), ("/readyz", 200),
    ("/nothing", 404), ("/v1/models", 401), ("/v1/inspect", 401),
    ("/v1/sessions", 401), ("/v1/stream?prompt=x", 401),
])  # fmt: skip
async def test_what_is_public_is_a_short_list(house, http, path, status):
    async with http.get(house.node.url(path)) as response:
        assert response.status == status


async def test_credentials_in_a_url_are_not_looked_at(house, http):
    for name in ("key", "token", "api_key", "access_token", "authorization"):
        assert (await answer(http, "GET", house.url(f"?{name}={KEYS['alice']}")))[0] == 401


async def test_whose_key_may_only_read_only_reads(house, http):
    reader = bearer("alice/reader")
    assert (await answer(http, "GET", house.url(), headers=reader))[1]["id"] == house.sid
    for method, path in CALLS:
        if method != "GET" and path != "/tickets":
            refused = await answer(http, method, house.url(path), headers=reader)
            assert (refused[0], refused[1]["error"]["code"]) == (403, "forbidden")
    started = await answer(
        http, "POST", house.node.url("/v1/sessions"), json={"prompt": "x"}, headers=reader
    )
    listed = await answer(http, "GET", house.node.url("/v1/sessions"), headers=reader)
    assert (started[0], listed[0]) == (403, 403)
    widened = {"json": {"rights": ["read", "control"]}}
    assert (await answer(http, "POST", house.url("/tickets"), headers=reader, **widened))[0] == 403
    async with http.ws_connect(house.url("/ws"), headers=reader) as ws:
        codes = [(await Socket(ws).ask(c, session=house.sid)).get("error", {}).get("code")
                 for c in ("attach", "pause", "resume", "abort")]  # fmt: skip
        assert codes == [None, "forbidden", "forbidden", "forbidden"]


async def test_an_operator_sees_and_steers_everybodys(house, http):
    operator = bearer("operator")
    listed = await answer(http, "GET", house.node.url("/v1/sessions"), headers=operator)
    assert [session["id"] for session in listed[1]["sessions"]] == [house.sid]
    paused = await answer(http, "POST", house.url("/pause"), headers=operator)
    assert (paused[0], paused[1]["paused"]) == (200, True)


async def test_one_idempotency_key_of_two_principals_is_two_sessions(house, http):
    ids = []
    for who in ("alice", "bob", "alice"):
        headers = bearer(who) | {"Idempotency-Key": "one"}
        url = house.node.url("/v1/sessions")
        ids.append((await answer(http, "POST", url, json={"prompt": "x"}, headers=headers))[1]["id"])
    assert ids[0] == ids[2] != ids[1]


async def test_every_call_of_a_node_that_names_a_session_asks_who_calls(house):
    """Whoever adds one has to add its arguments here, and a check there."""
    calls = {
        "seat": {"after": None},
        "control": {"action": Action.ABORT},
        "delete": {},
        "session": {},
        "owner": {"right": Right.READ},
        "push": {"head": Head("text/plain"), "pieces": None},
    }
    named = {
        name
        for name, method in inspect.getmembers(Node, inspect.iscoroutinefunction)
        if not name.startswith("_") and "sid" in inspect.signature(method).parameters
    }
    assert named - {"start"} == set(calls)
    for caller, refusal in ((Caller("key:bob", USER), NotFound), (NOBODY, Unauthorized)):
        CALLER.set(caller)
        for name, arguments in calls.items():
            with pytest.raises(refusal):
                await getattr(house.node.node, name)(house.sid, **arguments)


async def test_a_socket_may_say_later_who_it_is(house, http, monkeypatch):
    async with http.ws_connect(house.node.url("/v1/ws")) as ws:
        socket = Socket(ws)
        mine = {"session": house.sid}
        for command, body in (("start", {"prompt": "x"}), ("attach", mine), ("pause", mine)):
            refused = await socket.ask(command, **body)
            assert refused["error"]["code"] == "unauthorized"
        assert (await socket.ask("auth", token="tw_x"))["error"]["code"] == "unauthorized"
        assert (await socket.ask("auth"))["error"]["code"] == "invalid_request"
        assert (await socket.ask("auth", token=KEYS["bob"]))["ok"]
        assert (await socket.ask("auth", token=KEYS["alice"]))["error"]["code"] == "invalid_request"
        assert (await socket.ask("attach", session=house.sid))["error"]["code"] == "not_found"
        assert (await socket.ask("start", prompt="x"))["ok"]


async def test_a_socket_that_never_says_who_it_is_is_closed(house, http, monkeypatch):
    monkeypatch.setattr("server.transport.guest.INTRODUCTION", 0.05)
    async with http.ws_connect(house.node.url("/v1/ws")) as ws:
        assert (await ws.receive(HANG)).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 4401


async def test_a_key_that_is_taken_away_ends_what_it_opened(make_node, http, tmp_path, monkeypatch):
    from tests import sources
    from tests.security.people import LINES

    monkeypatch.setattr("server.ops.watched.LOOK", 0.0)
    monkeypatch.setattr("server.transport.doors.LOOK", 0.02)
    path = tmp_path / "keys"
    path.write_text("\n".join(LINES))
    source = sources.Stepped()
    node = await make_node({"stepped": source}, keys_file=path)
    headers = bearer("alice")
    sid = (await answer(http, "POST", node.url("/v1/sessions"), json={"prompt": "x"}, headers=headers))[
        1
    ]["id"]
    url = node.url(f"/v1/sessions/{sid}")
    async with (
        http.get(f"{url}/events", headers=headers) as stream,
        http.ws_connect(f"{url}/ws", headers=headers) as ws,
    ):
        await stream.content.readline()
        await ws.receive(HANG)
        path.write_text(LINES[1])
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.content.read()
        assert (await ws.receive(HANG)).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 4401
    assert (await answer(http, "GET", url, headers=headers))[0] == 401
    source.finish()


async def test_a_key_with_fewer_rights_ends_what_it_opened_with_more(
    make_node, http, tmp_path, monkeypatch
):
    from tests import sources
    from tests.security.people import LINES

    monkeypatch.setattr("server.ops.watched.LOOK", 0.0)
    monkeypatch.setattr("server.transport.doors.LOOK", 0.02)
    path, after = tmp_path / "keys", tmp_path / "after"
    path.write_text(LINES[0])
    after.write_text(LINES[0].replace("create+read+control", "read"))
    source = sources.Stepped()
    node = await make_node({"stepped": source}, keys_file=path)
    headers, start = bearer("alice"), {"json": {"prompt": "x"}}
    sid = (await answer(http, "POST", node.url("/v1/sessions"), headers=headers, **start))[1]["id"]
    wanted = {"json": {"rights": ["read", "control"]}, "headers": headers}
    url = node.url(f"/v1/sessions/{sid}")
    ticket = (await answer(http, "POST", f"{url}/tickets", **wanted))[1]["ticket"]
    async with http.ws_connect(node.url("/v1/ws"), headers=headers) as ws:
        assert (await Socket(ws).ask("pause", session=sid))["ok"]
        after.replace(path)
        assert (await ws.receive(HANG)).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 4401
    async with http.ws_connect(node.url(f"/v1/ws?ticket={ticket}")) as ws:
        assert (await ws.receive(HANG)).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 4401
    assert (await answer(http, "POST", f"{url}/resume", headers=headers))[0] == 403
    status, found, _ = await answer(http, "GET", url, headers=headers)
    assert (status, found["status"], found["paused"]) == (200, "running", True)
    source.finish()


@pytest.mark.parametrize("path", ["/v1/models/a/v1/ws", "/api/chat/ws", f"/v1/sessions/{UNKNOWN}/ws"])
async def test_no_other_socket_says_later_who_opens_it(house, http, path):
    asked = await answer(http, "GET", house.node.url(path), headers={"Upgrade": "websocket"})
    assert (asked[0], asked[1]["error"]["code"]) == (401, "unauthorized")
