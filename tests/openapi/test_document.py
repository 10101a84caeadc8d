"""The published document says what is served: every route, and every answer as it comes."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from server import Settings, create_app
from server.events import Bytes, Content, Done, Error, Reasoning, ToolCall
from server.openapi import CALLS, document
from tests.security.people import LINES

DOCUMENT = document()
CALL = {call.id: call for call in CALLS}
HELLO = [{"role": "user", "content": "Hello"}]
UI_HELLO = [{"role": "user", "parts": [{"type": "text", "text": "Hello"}]}]
UNKNOWN = "u" * 32

ANSWERED = [
    ("isAlive", {}, None, 200),
    ("isReady", {}, None, 200),
    ("describe", {}, None, 200),
    ("listModels", {}, None, 200),
    ("getModel", {"model": "many"}, None, 200),
    ("startSession", {}, {"prompt": "x", "session": {"conversation": "c"}}, 201),
    ("getSession", {}, None, 200),
    ("listSessions", {}, None, 200),
    ("pauseSession", {}, None, 200),
    ("resumeSession", {}, None, 200),
    ("abortSession", {}, None, 200),
    ("issueTicket", {}, {}, 201),
    ("getConversation", {}, None, 200),
    ("pauseConversation", {}, None, 200),
    ("resumeConversation", {}, None, 200),
    ("abortConversation", {}, None, 200),
    ("completeChat", {}, {"messages": HELLO}, 200),
    ("createResponse", {}, {"input": "x", "instructions": "y"}, 200),
    ("getResponse", {}, None, 200),
    ("cancelResponse", {}, None, 200),
    ("deleteResponse", {}, None, 200),
    ("sendChat", {}, {"id": "c", "messages": UI_HELLO}, 200),
    ("stopChat", {}, {}, 200),
    ("startSession", {}, {"upstream": "push"}, 201),
    ("pushEvents", {}, {"type": "content", "content": "x"}, 200),
    ("putEvents", {}, {"type": "done"}, 200),
]
REFUSED = [
    ("startSession", {}, {}, 400),
    ("startSession", {}, {"prompt": "x", "model": "nobody-has-this"}, 404),
    ("getSession", {"sid": UNKNOWN}, None, 404),
    ("getModel", {"model": "nobody-has-this"}, None, 404),
    ("completeChat", {}, {}, 400),
    ("completeChat", {}, {"messages": HELLO, "model": "failing"}, 502),
    ("createResponse", {}, {"input": []}, 400),
    ("getResponse", {"id": f"resp_{UNKNOWN}"}, None, 404),
    ("sendChat", {}, {}, 400),
    ("openSocket", {}, None, 400),
]


async def many(request):
    """An event of each kind."""
    for event in (Reasoning("a"), Content("b"), ToolCall(0, "i", "f", "{"), ToolCall(0, arguments="}")):
        yield event
    yield Bytes(b"\0", "image/png")
    yield Done(usage={"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4})


async def failing(request):
    """An upstream that fails at once."""
    yield Error("upstream_error", "It failed.", retryable=True)


def check(schema: dict[str, Any], value: Any) -> None:
    """Hold a value against a schema of the document."""
    whole = {"components": DOCUMENT["components"], **schema}
    Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


def expanded(resource: web.AbstractResource) -> Iterator[str]:
    """Yield a resource's paths, as the document has them: one for each word that a part may be."""
    info = resource.get_info()
    paths = [info.get("path") or info["formatter"]]
    pattern = info["pattern"].pattern if "pattern" in info else ""
    for name, words in re.findall(r"\(\?P<(\w+)>([a-z|]+)\)", pattern):
        paths = [path.replace(f"{{{name}}}", word) for path in paths for word in words.split("|")]
    yield from paths


def test_every_route_is_in_the_document_and_nothing_else():
    app = create_app(Settings(redis="redis://127.0.0.1:1"))
    routes = [(route, path) for route in app.router.routes() for path in expanded(route.resource)]
    served = {
        (route.method.lower(), path)
        for route, path in routes
        # The page's files are no calls; what answers a GET answers a HEAD, too.
        if route.method != "HEAD" and not (isinstance(route.handler, partial) and path != "/openapi.json")
    }
    assert {(call.method, call.path) for call in CALLS} == served


def test_the_document_is_one():
    validate(DOCUMENT)
    assert len(CALL) == len(CALLS)


async def test_it_is_served_to_everybody(make_node, http):
    node = await make_node(keys=LINES)
    async with http.get(node.url("/openapi.json")) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert await response.json() == orjson.loads(orjson.dumps(DOCUMENT))


async def ask(http, node, id: str, names: dict[str, str], body: Any) -> tuple[int, str, Any]:
    """Make a call; return the answer's status, content type and body."""
    call = CALL[id]
    pushes = id in ("pushEvents", "putEvents")
    sent = {"data": orjson.dumps(body) + b"\n"} if pushes else {"json": body}
    headers = {"Content-Type": "application/x-ndjson"} if pushes else {}
    url = node.url(call.path.format(**names))
    async with http.request(call.method, url, headers=headers, **sent) as response:
        kind, told = response.content_type, await response.read()
        return response.status, kind, orjson.loads(told) if kind == "application/json" else None


def documented(id: str, status: int) -> dict[str, dict[str, Any]]:
    """Return what an answer may be, by content type."""
    call = CALL[id]
    answers = DOCUMENT["paths"][call.path][call.method]["responses"]
    told = answers.get(str(status)) or answers[f"{status // 100}XX"]
    return told.get("content", {})


async def test_every_answer_is_as_documented(make_node, http):
    node = await make_node({"many": many})
    names: dict[str, str] = {"name": "c"}
    held = set()
    for id, given, body, expected in ANSWERED:
        status, kind, told = await ask(http, node, id, names | given, body)
        assert (id, status, kind in documented(id, status)) == (id, expected, True), told
        if told is not None:
            check(documented(id, status)[kind]["schema"], told)
            held.add((id, status))
        if id == "startSession":
            names["sid"] = told["id"]
        if id == "createResponse":
            names["id"] = told["id"]
    kinds = {(c.id, s) for c in CALLS for s in c.gives if "application/json" in documented(c.id, s)}
    # The second answer to one key, like the first.
    assert held == kinds - {("startSession", 200)}


@pytest.mark.parametrize(("id", "names", "body", "expected"), REFUSED)
async def test_every_refusal_is_as_documented(make_node, http, id, names, body, expected):
    node = await make_node({"many": many, "failing": failing})
    status, kind, told = await ask(http, node, id, names, body)
    assert (status, kind) == (expected, "application/json"), told
    check(documented(id, status)[kind]["schema"], told)


async def test_what_is_not_allowed_is_refused_as_documented(make_node, http):
    node = await make_node(keys=LINES)
    for call in CALLS:
        names = {"sid": UNKNOWN, "name": "c", "id": f"resp_{UNKNOWN}", "model": "demo"}
        status, kind, told = await ask(http, node, call.id, names, None)
        assert (call.id, status) == (call.id, 200 if call.rights is None else 401)
        check(documented(call.id, status)[kind]["schema"], told)


@pytest.mark.parametrize("model", ["many", "failing"])
@pytest.mark.parametrize("delivery", ["each", "merged"])
async def test_every_line_of_a_stream_is_as_documented(make_node, http, model, delivery):
    node = await make_node({"many": many, "failing": failing})
    query = f"/v1/sessions?stream=ndjson&delivery={delivery}"
    async with http.post(node.url(query), json={"prompt": "x", "model": model}) as response:
        lines = [orjson.loads(line) async for line in response.content]
    for line in lines:
        check({"$ref": "#/components/schemas/Line"}, line)
    assert (lines[0]["type"], lines[-1]["type"]) == ("session", "done" if model == "many" else "error")
