"""Responses of other clients, relayed: another AI endpoint, a page, a file."""

import pytest
from aiohttp import web
from multidict import CIMultiDict

from server.errors import (
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTruncated,
)
from server.events import Bytes, Content, Done
from server.upstream.python import python
from tests.fake_upstream import expected_text, fake_app, stats_of
from tests.upstream.runs import request, run
from tests.waiting import until


@pytest.fixture
async def served(http, aiohttp_server):
    """Return a source that proxies a page of a given type, body and status."""

    async def serve(asked: web.Request) -> web.Response:
        body, status = bytes.fromhex(asked.query["body"]), int(asked.query["status"])
        return web.Response(body=body, status=status, headers={"Content-Type": asked.query["kind"]})

    app = fake_app()
    app.router.add_get("/", serve)
    server = await aiohttp_server(app)

    def page(kind, body, status=200):
        query = {"kind": kind, "body": body.hex(), "status": str(status)}
        return python(lambda request: http.get(server.make_url("/"), params=query))

    page.chat = python(
        lambda request: http.post(server.make_url("/v1/chat/completions"), json=request.parameters)
    )
    page.stats = stats_of(app)
    return page


RELAYED = [
    ("text/plain", "é🙂".encode(), Content("é🙂")),
    ("text/html; charset=latin-1", b"\xe9", Content("é")),
    ("application/json", b"[1]", Content("[1]")),
    ("audio/mpeg", b"\xff\x00", Bytes(b"\xff\x00", "audio/mpeg")),
]


@pytest.mark.parametrize(("kind", "body", "event"), RELAYED)
async def test_a_response_is_relayed_as_text_or_bytes(served, kind, body, event):
    assert await run(served(kind, body)) == [event, Done()]


async def test_another_ai_endpoint_is_relayed_as_its_events(served):
    events = await run(served.chat, request(seed="p", tokens=5))
    assert "".join(e.content for e in events[:-1]) == expected_text("p", 5)
    assert events[-1] == Done("stop", {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8})
    assert isinstance((await run(served.chat, request(script="no_done")))[-1], Done)
    with pytest.raises(UpstreamTruncated):
        await run(served.chat, request(script="truncated"))


async def test_leaving_a_relayed_response_closes_its_connection(served):
    events = served.chat(request(tokens=10_000, rate=100))
    await anext(events)
    await events.aclose()
    await until(lambda: served.stats["closed"])
    assert served.stats["closed"][0]["closed_by_peer"]


@pytest.mark.parametrize(
    ("kind", "body", "status", "error"),
    [
        ("text/plain", b"no key", 401, UpstreamRejected),
        ("text/plain", b"later", 503, UpstreamRateLimited),
        ("text/plain", "é".encode()[:1], 200, UpstreamInvalid),
        ("text/plain; charset=klingon", b"a", 200, UpstreamInvalid),
    ],
)
async def test_a_response_that_is_no_answer_fails(served, kind, body, status, error):
    with pytest.raises(error):
        await run(served(kind, body, status))


async def test_a_response_of_another_client_is_relayed_and_closed():
    class Response:
        headers = CIMultiDict({"content-type": "text/plain"})
        status_code = 200
        closed = False

        async def aiter_bytes(self):
            for byte in "é🙂".encode():
                yield bytes([byte])

        async def aclose(self):
            self.closed = True

    response = Response()
    assert await run(python(response)) == [Content("é"), Content("🙂"), Done()]
    assert response.closed
