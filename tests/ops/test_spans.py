"""Spans: a request, and under it the session that it started."""

import asyncio
import gzip
import sys

import pytest
from aiohttp import web
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server.ops import spans
from server.settings import SettingsError
from tests.clients import collect, sse, start

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def spans_made():
    exporter = InMemorySpanExporter()
    end = spans.record(SimpleSpanProcessor(exporter))
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    end()


async def test_a_session_is_a_child_of_its_request_which_is_a_child_of_its_caller(
    make_node, http, spans_made
):
    server = await make_node()
    http.headers["traceparent"] = PARENT
    sid = await start(http, server, tokens=3, rate=0)
    await collect(sse(http, server, sid))
    made = spans_made()
    request, generation = made["POST /v1/sessions"], made["generation"]
    assert f"{request.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{request.parent.span_id:016x}" == PARENT.split("-")[2]
    assert request.attributes["tokenwire.status"] == 201
    assert generation.parent.span_id == request.context.span_id
    told = {k.removeprefix("tokenwire."): v for k, v in generation.attributes.items()}
    assert {k: told[k] for k in ("session", "model", "status", "tokens")} == {
        "session": sid,
        "model": "demo",
        "status": "done",
        "tokens": 3,
    }
    assert told["first_token_ms"] <= told["duration_ms"]


async def test_spans_reach_a_collector(make_node, http):
    bodies = []

    async def collector(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", collector)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    end = spans.export(f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces")
    try:
        sid = await start(http, await make_node(), tokens=1)
    finally:
        await asyncio.to_thread(end)
        await runner.cleanup()
    sent = b"".join(map(gunzipped, bodies))
    assert b"POST /v1/sessions" in sent
    assert sid.encode() in sent


def gunzipped(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


async def test_nothing_is_recorded_after_the_end(make_node, http):
    exporter = InMemorySpanExporter()
    spans.record(SimpleSpanProcessor(exporter))()
    server = await make_node()
    await start(http, server, tokens=1)
    assert exporter.get_finished_spans() == ()


def test_without_the_extra_the_setting_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(SettingsError, match="needs the extra"):
        spans.export("http://127.0.0.1:4318/v1/traces")
