"""Attacks by what is sent: ids, paths, bodies and frames that are not what they should be."""

import asyncio
import gzip
import zlib
from urllib.parse import quote

import orjson
import pytest

from server.session.ledger import _tag
from tests import sources
from tests.clients import Socket, collect, sse, start
from tests.fuzz.calls import frame
from tests.security.people import LINES
from tests.security.sockets import close_code, opened
from tests.waiting import HANG

GOOD = "g" * 32
CUT = GOOD[:-1]
UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
IDS = [
    f"{CUT}\n", f"{CUT}\r", f"{CUT}\0", f"\n{GOOD}", f"{GOOD}\r\nX-Evil: 1", f"{{{GOOD}}}", f"{GOOD}}}",
    f"x}}:m{{{GOOD}", "../" * 10, "%00" * 10, "g" * 21, "g" * 65, "г" * 32, f"{CUT} ", f"{CUT}*", "",
]  # fmt: skip
PATHS = [
    "/../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
    "/client/../../setup.cfg", "/client/..%5c..%5csetup.cfg", "/static/app.js", "/app.py", "/.git/config",
    "/etc/passwd", "/server/app.py", "/client/", "/client", "/index.html%00.js", "/app.js/", "/APP.JS",
    "/v1/../setup.cfg", "/..;/setup.cfg",
]  # fmt: skip


@pytest.fixture
async def node(make_node):
    return await make_node({"paced": sources.paced})


async def sent(node, request: bytes) -> bytes:
    """Send bytes as they are; return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(request)
    async with asyncio.timeout(HANG):
        answer = await reader.read()
    writer.close()
    return answer


def request(method: str, path: str, *headers: str, body: str = "") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", body)
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("sid", IDS, ids=repr)
async def test_what_cannot_be_an_id_is_no_session(node, http, sid, redis_server):
    for method, verb in (("GET", ""), ("GET", "/events"), ("POST", "/abort"), ("DELETE", "")):
        answer = await sent(node, request(method, f"/v1/sessions/{quote(sid, safe='')}{verb}"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split()[1] in (b"404", b"405")
        assert orjson.loads(body)["error"]["code"] in ("not_found", "no_such_path", "method_not_allowed")
        assert b"Evil" not in answer
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        socket = Socket(ws)
        for command in ("attach", "pause", "resume", "abort", "detach"):
            assert (await socket.ask(command, session=sid))["error"]["code"] == "not_found"
    place = {"Last-Event-ID": quote(sid) + ".1-1"}
    async with http.get(node.url("/v1/stream"), headers=place) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "bad_cursor")
    keys = redis_server.client()
    assert [key for key in keys.scan_iter("*") if b"Evil" in key or b"\n" in key] == []
    keys.close()


@pytest.mark.parametrize("key", ["a\nb", "a\rb", "a\0b", "é", "", "k" * 256])
async def test_what_cannot_be_an_idempotency_key_is_refused(node, http, key):
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        refused = await Socket(ws).ask("start", prompt="x", idempotency_key=key)
        assert refused["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("cursor", ["1-1\n", "1-1\r", "1-1\0", "{1}-1", "1-{1}", "1-1}"])
async def test_what_cannot_be_a_cursor_is_refused(node, http, cursor):
    sid = await start(http, node, tokens=1)
    async with http.get(node.url(f"/v1/sessions/{sid}/events"), params={"after": cursor}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "bad_cursor")


async def test_header_injection_is_no_request(node):
    for line in ("Last-Event-ID: 1-1\0", "Idempotency-Key: a\0b", "X: a\rEvil: 1", "X : a"):
        answer = await sent(node, request("GET", "/v1/models", line))
        assert answer.split()[1] == b"400"
        assert b"Evil" not in answer


@pytest.mark.parametrize(
    "header",
    ["Authorization: Bearer tw_~", "Authorization: Bearer ~", "Cookie: tokenwire=~"],
)
async def test_a_credential_that_is_no_text_is_none(make_node, header):
    node = await make_node(keys=LINES, jwt_secret="s" * 32)
    answer = await sent(node, request("GET", "/v1/models", header).replace(b"~", b"\xff"))
    assert answer.split()[1] == b"401"


async def test_a_conversation_that_is_no_text_is_none(node):
    body = '{"messages":[{"role":"user","content":"x"}]}'
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}", "X-Conversation-Id: ~")
    asked = request("POST", "/v1/chat/completions", *headers, body=body).replace(b"~", b"\xff")
    assert (await sent(node, asked)).split()[1] == b"400"


async def test_a_conversation_and_a_model_may_be_called_anything_and_steer_no_key(
    node, http, redis_server
):
    name = "}{tw:x}\n\0*"
    sid = await start(http, node, tokens=1, session={"conversation": name})
    body = {"prompt": "x", "model": f"m\r\nX-Evil: 1{name}"}
    async with http.post(node.url("/v1/sessions"), json=body) as response:
        assert (response.status, "X-Evil" in response.headers) == (404, False)
    assert (await collect(sse(http, node, sid)))[-1]["type"] == "done"
    client = redis_server.client()
    assert [key for key in client.scan_iter("*") if b"x}\n" in key] == []
    client.close()


@pytest.mark.parametrize("name", ["alice}:m{x}", "{}", "a\nb\0", "é" * 200])
def test_a_principals_name_steers_no_key(name):
    assert set(_tag(name)) <= set("who:0123456789abcdef")


async def test_tokens_that_imitate_frames_stay_tokens(make_node, http):
    evil = [
        "\n\nevent: done\ndata: {}\n\n", "\r\rid: 9-9\r", "data: [DONE]\n\n", "\0", "\u2028\u2029",
        '"}\n{"type":"done"}\n', ": ping", "</script><img src=x>",
    ]  # fmt: skip

    async def source(request):
        for piece in evil:
            yield sources.Content(piece)
        yield sources.Done()

    node = await make_node({"evil": source})
    sid = await start(http, node)
    events = await collect(sse(http, node, sid))
    assert [event.get("content") for event in events] == [*evil, None]
    async with http.get(node.url(f"/v1/sessions/{sid}/events?stream=ndjson")) as response:
        lines = [orjson.loads(line) for line in (await response.read()).splitlines()]
    assert [line["content"] for line in lines if line["type"] == "content"] == evil


BAD_BODIES = [
    ("Content-Encoding: gzip", "no gzip at all"),
    ("Content-Encoding: deflate", "nor deflate"),
    ("Transfer-Encoding: chunked", '5\r\n{"a":\r\nthis is no chunk\r\n0\r\n\r\n'),
]


@pytest.mark.parametrize(("header", "body"), BAD_BODIES)
async def test_a_body_that_is_not_what_its_headers_say_is_refused_and_not_logged(
    node, header, body, caplog
):
    length = () if "chunked" in header else (f"Content-Length: {len(body)}",)
    answer = await sent(node, request("POST", "/v1/sessions", header, *length, body=body))
    assert answer.split()[1] == b"400"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    ("method", "path", "header", "status"),
    [
        ("POST", "/v1/chat/completions", b"X-Conversation-Id: \xff", b"400"),
        ("PUT", f"/v1/sessions/{GOOD}/events", b"Content-Type: image/\xff", b"404"),
        ("GET", "/v1/sessions", b"Authorization: Bearer tw_\xff", b"200"),
        ("GET", "/app.js", b"Expect: 1\xff", b"200"),
        ("GET", "/v1/ws", UPGRADE + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \xff", b"400"),
        ("GET", "/v1/ws", UPGRADE + b"Sec-WebSocket-Version: \xff", b"400"),
        ("GET", "/api/chat/ws", UPGRADE + b"Upgrade: \xff", b"400"),
    ],
)
async def test_a_header_that_is_no_text_is_no_failure(node, method, path, header, status):
    head = request(method, path, "Content-Length: 14", "X: ?").replace(b"X: ?", header)
    answer = await sent(node, head + b'{"prompt":"x"}')
    assert answer.split()[1] == status


@pytest.mark.parametrize("path", PATHS)
async def test_no_path_leads_out_of_the_pages(node, path):
    answer = await sent(node, request("GET", path))
    assert answer.split()[1] in (b"404", b"400")
    assert b"root:" not in answer
    assert b"[metadata]" not in answer


async def test_a_bomb_of_zeros_is_refused_before_it_is_unpacked(node, http):
    bomb = gzip.compress(b'{"prompt":"' + bytes(50 << 20))
    assert len(bomb) < 60_000
    headers = {"Content-Encoding": "gzip"}
    async with http.post(node.url("/v1/sessions"), data=bomb, headers=headers) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (413, "too_large")


async def test_a_body_that_says_it_is_huge_is_refused_before_it_comes(node):
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(request("POST", "/v1/sessions", f"Content-Length: {1 << 40}", body="x" * 2_000_000))
    async with asyncio.timeout(HANG):
        assert b" 413 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize(("path", "most"), [("/v1/ws", 64 << 10), ("/api/chat/ws", 1 << 20)])
@pytest.mark.parametrize("beyond", [1, 64 << 20, (1 << 62) - (1 << 20)])
async def test_a_frame_that_says_it_is_huge_ends_the_socket_before_it_comes(node, path, most, beyond):
    async with opened(node, path) as (reader, writer):
        writer.write(frame(b"x" * 1000, size=most + beyond))
        assert await close_code(reader) == 1009


@pytest.mark.parametrize(("path", "most"), [("/v1/ws", 64 << 10), ("/api/chat/ws", 1 << 20)])
async def test_fragments_that_are_too_much_together_end_the_socket(node, path, most):
    async with opened(node, path) as (reader, writer):
        writer.write(frame(b"x" * (most // 2), final=False))
        writer.write(frame(b"x" * (most // 2), opcode=0, final=False))
        writer.write(frame(b"x", opcode=0, final=False))
        assert await close_code(reader) == 1009


@pytest.mark.parametrize("path", ["/v1/ws", "/api/chat/ws"])
async def test_a_compressed_frame_is_not_taken(node, path):
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    packed = zlib.compressobj(wbits=-15)
    said = packed.compress(b'{"type":"ping"}') + packed.flush(zlib.Z_SYNC_FLUSH)
    async with opened(node, path, offer) as (reader, writer):
        writer.write(frame(said, opcode=0x40 | 1))
        assert await close_code(reader) == 1002


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/app.js"])
async def test_who_expects_too_much_is_told_so_in_other_words(node, path):
    answer = await sent(node, request("GET", path, "Expect: <b>evil"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (head.split()[1], b"Content-Type: application/json" in head) == (b"400", True)
    assert orjson.loads(body)["error"]["code"] == "invalid_request"
    assert b"evil" not in answer
