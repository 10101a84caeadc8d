"""Bad input gets the protocol's error: never a stack, never a silent restart from zero."""

import asyncio
import io

import aiohttp
import orjson
import pytest

from tests import sources
from tests.clients import Socket, collect, sse, start
from tests.waiting import HANG

UNKNOWN = "u" * 32
POST_BODIES = [
    (b"", 400, "bad_json"),
    (b"{", 400, "bad_json"),
    (b"[]", 400, "bad_json"),
    (b'"x"', 400, "bad_json"),
    (b"\xff\xfe", 400, "bad_json"),
    (b"[" * 100_000, 400, "bad_json"),
    (b'{"prompt":"x","deep":' + b"[" * 300 + b"]" * 300 + b"}", 400, "bad_json"),
    (b"{}", 400, "invalid_request"),
    (b'{"prompt":1}', 400, "invalid_request"),
    (b'{"prompt":"x","messages":[]}', 400, "invalid_request"),
    (b'{"messages":[]}', 400, "invalid_request"),
    (b'{"messages":["x"]}', 400, "invalid_request"),
    (b'{"prompt":"x","model":7}', 400, "invalid_request"),
    (b'{"prompt":"x","model":"nobody-has-this"}', 404, "unknown_model"),
    (b'{"prompt":"x","model":0}', 400, "invalid_request"),
    (b'{"prompt":"x","session":{"ttl":-1}}', 400, "invalid_request"),
    (b'{"prompt":"x","session":{"hold_limit":1e30}}', 400, "invalid_request"),
    (b'{"prompt":"x","session":{"hold_limit":9007199254740993}}', 400, "invalid_request"),
    (b'{"prompt":"x","session":{"surprise":1}}', 400, "invalid_request"),
    (b'{"prompt":"x","session":[]}', 400, "invalid_request"),
    (b'{"prompt":"' + b"x" * 2_000_000 + b'"}', 413, "too_large"),
]
REQUESTS = [
    ("GET", "/v1/nothing", 404, "no_such_path"),
    ("PUT", "/v1/sessions", 405, "method_not_allowed"),
    ("GET", f"/v1/sessions/{UNKNOWN}", 404, "not_found"),
    ("GET", f"/v1/sessions/{UNKNOWN}/events", 404, "not_found"),
    ("GET", f"/v1/sessions/{UNKNOWN}/ws", 404, "not_found"),
    ("GET", "/v1/sessions/short/events", 404, "not_found"),
    ("GET", "/v1/sessions/%7Btw%7D%7Btw%7D%7Btw%7D%7Btw%7D%7Btw%7D/events", 404, "no_such_path"),
    ("POST", f"/v1/sessions/{UNKNOWN}/abort", 404, "not_found"),
    ("POST", f"/v1/sessions/{UNKNOWN}/pause", 404, "not_found"),
    ("DELETE", f"/v1/sessions/{UNKNOWN}", 404, "not_found"),
    ("GET", "/v1/sessions?limit=-1", 400, "invalid_request"),
    ("GET", "/v1/sessions?offset=x", 400, "invalid_request"),
    ("GET", "/v1/sessions?limit=201", 400, "invalid_request"),
    ("GET", "/v1/stream", 400, "invalid_request"),
    ("GET", "/v1/stream?prompt=x&delivery=x", 400, "invalid_request"),
    ("GET", "/v1/ws", 400, "invalid_request"),
    ("GET", "/api/chat", 400, "invalid_request"),
]
CURSORS = ["x", "-1", "1", "1--1", "0x1-2", "1-2-3", "9" * 2048, "١-٢", "1-2 "]
FRAMES = [
    ("", "bad_json"),
    ("{", "bad_json"),
    ("[]", "bad_json"),
    ('{"type":"ping","ref":' + "[" * 300 + "]" * 300 + "}", "bad_json"),
    ('{"ref":1}', "unknown_type"),
    ('{"ref":1,"type":"surprise"}', "unknown_type"),
    ('{"ref":1,"type":["pause"]}', "unknown_type"),
    ('{"ref":1,"type":"start"}', "invalid_request"),
    ('{"ref":1,"type":"attach"}', "not_found"),
    ('{"ref":1,"type":"pause","session":7}', "not_found"),
    (f'{{"ref":1,"type":"abort","session":"{UNKNOWN}"}}', "not_found"),
    (f'{{"ref":1,"type":"detach","session":"{UNKNOWN}"}}', "not_found"),
]


@pytest.fixture
async def node(make_node):
    return await make_node({"paced": sources.paced})


async def _error(response):
    body = orjson.loads(await response.read())
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "type"}
    assert "Traceback" not in body["error"]["message"]
    return response.status, body["error"]["code"]


@pytest.mark.parametrize(("body", "status", "code"), POST_BODIES, ids=lambda v: repr(v)[:40])
async def test_a_bad_body_is_refused(node, http, body, status, code):
    async with http.post(node.url("/v1/sessions"), data=io.BytesIO(body)) as response:
        assert await _error(response) == (status, code)


@pytest.mark.parametrize(("method", "path", "status", "code"), REQUESTS)
async def test_a_bad_request_is_refused(node, http, method, path, status, code):
    async with http.request(method, node.url(path)) as response:
        assert await _error(response) == (status, code)


@pytest.mark.parametrize(
    ("method", "query", "status"),
    [
        ("POST", "stream=sse&delivery=x", 400),
        ("GET", "prompt=x&delivery=x", 400),
        ("HEAD", "prompt=x", 405),
    ],
)
async def test_what_is_refused_has_started_nothing(node, http, method, query, status):
    path, body = ("sessions", {"prompt": "x"}) if method == "POST" else ("stream", None)
    async with http.request(method, node.url(f"/v1/{path}?{query}"), json=body) as response:
        assert response.status == status
    async with http.get(node.url("/v1/sessions")) as response:
        assert (await response.json())["sessions"] == []


@pytest.mark.parametrize("query", ["stream=maybe", "starting_after=x", "stream=&starting_after=1"])
async def test_a_responses_parameters_are_read_whatever_the_others_say(node, http, query):
    async with http.post(node.url("/v1/responses"), json={"input": "x"}) as response:
        id = (await response.json())["id"]
    async with http.get(node.url(f"/v1/responses/{id}?{query}")) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["sessions", "chat/completions", "responses"])
async def test_an_empty_idempotency_key_is_refused(node, http, path):
    body = {"input": "x"} if path == "responses" else {"messages": [{"role": "user", "content": "x"}]}
    headers = {"Idempotency-Key": ""}
    async with http.post(node.url(f"/v1/{path}"), json=body, headers=headers) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")


async def test_a_stream_has_no_head_of_its_own(node, http):
    sid = await start(http, node, tokens=1)
    await collect(sse(http, node, sid))
    for path in (
        f"sessions/{sid}/events",
        f"sessions/{sid}/raw",
        f"responses/resp_{sid}?stream=true",
        "ws",
    ):
        async with http.head(node.url(f"/v1/{path}")) as response:
            assert (path, response.status) == (path, 405)


@pytest.mark.parametrize("cursor", CURSORS)
async def test_a_garbage_cursor_is_400_in_header_and_query(node, http, cursor):
    sid = await start(http, node, tokens=1)
    url = node.url(f"/v1/sessions/{sid}/events")
    async with http.get(url, params={"after": cursor}) as response:
        assert await _error(response) == (400, "bad_cursor")
    if cursor.isascii() and cursor == cursor.strip():  # HTTP strips a header's blanks
        async with http.get(url, headers={"Last-Event-ID": cursor}) as response:
            assert await _error(response) == (400, "bad_cursor")


async def test_a_cursor_the_log_does_not_hold_is_a_visible_reset(node, http):
    sid = await start(http, node, tokens=3)
    events = await collect(sse(http, node, sid))
    epoch = int(events[0]["id"].split("-")[0])
    for foreign in (f"{epoch - 1}-2", f"{epoch}-99", f"{epoch + 5}-1"):
        stream = sse(http, node, sid, after=foreign)
        notices = [await anext(stream), await anext(stream)]
        assert [n["type"] for n in notices] == ["session", "reset"]
        assert notices[1]["facts"]["epoch"] == epoch
        assert await collect(stream) == events


@pytest.mark.parametrize(("frame", "code"), FRAMES)
async def test_a_bad_frame_is_answered_and_the_socket_lives(node, http, frame, code):
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        await ws.send_str(frame)
        reply = orjson.loads((await ws.receive(HANG)).data)
        assert (reply["type"], reply["ok"], reply["error"]["code"]) == ("reply", False, code)
        assert (await Socket(ws).ask("start", prompt="x", tokens=1))["ok"]


async def test_a_binary_frame_is_answered_and_an_oversized_one_closes_1009(node, http):
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        await ws.send_bytes(b"\x00\x01")
        assert orjson.loads((await ws.receive(HANG)).data)["error"]["code"] == "bad_json"
        await ws.send_str("x" * 70_000)
        message = await ws.receive(HANG)
        assert (message.type, ws.close_code) == (aiohttp.WSMsgType.CLOSE, 1009)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_foreign_page_may_not_change_anything_nor_open_a_socket(node, http, origin):
    headers = {"Origin": origin}
    async with http.post(node.url("/v1/sessions"), json={"prompt": "x"}, headers=headers) as response:
        assert await _error(response) == (403, "forbidden")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(node.url("/v1/ws"), headers=headers)
    assert refused.value.status == 403


async def test_the_own_page_may(node, http):
    headers = {"Origin": node.url("")}
    async with http.post(node.url("/v1/sessions"), json={"prompt": "x"}, headers=headers) as response:
        assert response.status == 201


async def test_a_failing_upstream_is_a_typed_error_and_breaks_a_text_body_off(make_node, http):
    async def failing(request):
        yield sources.Content("half")
        raise RuntimeError("with a secret: sk-123")

    node = await make_node({"failing": failing})
    sid = await start(http, node)
    events = await collect(sse(http, node, sid))
    assert events[-1]["type"] == "error"
    assert (events[-1]["code"], "sk-123" in str(events)) == ("upstream_error", False)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with http.get(node.url(f"/v1/sessions/{sid}/events?stream=text")) as response:
            await response.read()


async def test_an_upstream_that_just_ends_is_truncated_never_done(make_node, http):
    async def short(request):
        yield sources.Content("half")

    node = await make_node({"short": short})
    events = await collect(sse(http, node, await start(http, node)))
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "upstream_truncated")


async def test_a_reader_that_leaves_stops_nothing(node, http):
    sid = await start(http, node, prompt="l", tokens=100, rate=500)
    readers = [collect(sse(http, node, sid), count=3) for _ in range(20)]
    await asyncio.gather(*readers)
    events = await collect(sse(http, node, sid))
    assert events[-1]["type"] == "done"
