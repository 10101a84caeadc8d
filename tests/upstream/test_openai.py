"""Rows U1-U13: what a model server may do, and what becomes of it, over real sockets."""

import asyncio
import socket
import time
from contextlib import aclosing

import pytest

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamStall,
    UpstreamTruncated,
    UpstreamUnreachable,
)  # fmt: skip
from server.events import Content, Done, Reasoning, ToolCall
from server.upstream.openai import OpenAI, Server
from server.upstream.sse_parser import MAX_EVENT
from tests.fake_upstream import expected_text
from tests.upstream.runs import KEY, LATE, NOWHERE, Tray, leave, outcome, request, text
from tests.waiting import until


async def drain(client, fake, **parameters):
    return await outcome(client.upstream(Server(fake[0], KEY)), **parameters)


@pytest.mark.parametrize("split", [0, 1, 2, 3, 7, 64])
@pytest.mark.parametrize("script", ["whole", "no_done", "junk_after_done", "odd_chunks"])
async def test_a_whole_stream_is_read_exactly(client, fake, split, script):
    events, error = await drain(client, fake, seed="w", tokens=30, script=script, split=split)
    assert error is None
    assert text(events) == expected_text("w", 30)
    assert isinstance(events[-1], Done)
    assert (events[-1].usage is not None) == (script in ("whole", "no_done"))


@pytest.mark.parametrize("split", [0, 1, 5])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
async def test_every_line_end_and_a_bom_are_read(client, fake, newline, split):
    events, error = await drain(client, fake, seed="n", newline=newline, bom=True, split=split)
    assert (text(events), events[-1].finish_reason, error) == (expected_text("n", 20), "stop", None)


async def test_what_is_asked_for(client, fake):
    await drain(client, fake, temperature=0.5, stream_options={"x": 1})
    (body,) = fake[1]["bodies"]
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5,
        "stream": True, "stream_options": {"x": 1, "include_usage": True},
    }  # fmt: skip


@pytest.mark.parametrize("n", [None, 1])
async def test_one_choice_may_be_asked_for(client, fake, n):
    _, error = await drain(client, fake, n=n)
    assert (error, "n" in fake[1]["bodies"][0]) == (None, False)


SHAPES = {
    "done_only": [Done("stop")],
    "two_choices": [Content("mine"), Done("stop")],
    "parts": [Content("ab"), Content("no"), Done("stop")],
    "object_arguments": [ToolCall(0, "1", "f", '{"a":1}'), Done("tool_calls")],
    "function_call": [
        ToolCall(0, None, "f", "{"), ToolCall(0, None, None, "}"), Done("function_call"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("script", SHAPES)
async def test_each_shape_of_chunk_is_understood(client, fake, script):
    assert await drain(client, fake, tokens=0, script=script) == (SHAPES[script], None)


async def test_tool_calls_and_reasoning(client, fake):
    events, _ = await drain(client, fake, tokens=0, script="tool_call")
    assert events == [
        ToolCall(0, "call_1", "search", '{"q":'), ToolCall(0, None, None, '"x"}'), Done("tool_calls"),
    ]  # fmt: skip
    events, _ = await drain(client, fake, tokens=0, script="reasoning")
    assert events == [Reasoning("hm"), Reasoning("so"), Done("stop")]


async def test_an_answer_that_is_not_streamed_is_taken_whole(client, fake):
    events, error = await drain(client, fake, seed="p", script="plain")
    assert (text(events), events[-1].finish_reason, error) == (expected_text("p", 20), "stop", None)


OTHER = [
    {"kind": "text/html"},
    {"kind": "text/event-stream", "encoding": "gzip"},
    {"tokens": 2 * MAX_EVENT},
]


@pytest.mark.parametrize("other", OTHER, ids=["a page", "compressed", "too large"])
async def test_what_is_no_answer_is_refused(client, fake, other):
    _, error = await drain(client, fake, script="other", **other)
    assert type(error) is UpstreamInvalid


FAILURES = {
    "truncated": (UpstreamTruncated, 20),
    "malformed": (UpstreamInvalid, 20),
    "empty_reason": (UpstreamTruncated, 20),
    "reset": (UpstreamTruncated, 20),
    "bad_text": (UpstreamInvalid, 20),
    "error": (UpstreamFailed, 20),
    "error_event": (UpstreamFailed, 20),
    "overloaded": (UpstreamRateLimited, 20),
    "rejected": (UpstreamRejected, 20),
    "giant": (UpstreamInvalid, 20),
    "stall": (UpstreamStall, 20),
    "redirect": (UpstreamRejected, 0),
    "other": (UpstreamInvalid, 0),
    "garbage": (UpstreamInvalid, 0),
}


@pytest.mark.parametrize("script", FAILURES)
async def test_a_failure_is_typed_and_keeps_the_prefix(client, fake, caplog, script):
    kind, tokens = FAILURES[script]
    # Paced: a reset throws away what the reader has not taken yet.
    events, error = await drain(client, fake, seed="f", script=script, rate=2000)
    assert type(error) is kind
    assert "sk-" not in str(error) + repr(error) + caplog.text
    assert text(events) == expected_text("f", tokens)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_refusal_is_not_retried(client, fake, status):
    _, error = await drain(client, fake, script="failing", status=status)
    assert "sk-" not in str(error) + repr(error)
    assert (type(error), error.upstream_status, error.retryable) == (UpstreamRejected, status, False)
    assert fake[1]["requests"] == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_overload_is_retried_before_the_first_token(client, fake, status):
    script = {"script": "failing", "status": status, "failures": 2, "retry_after": 0}
    events, error = await drain(client, fake, seed="o", **script)
    assert (text(events), error, fake[1]["requests"]) == (expected_text("o", 20), None, 3)


@pytest.mark.parametrize("status", [429, 503])
async def test_overload_is_not_retried_sooner_than_it_asks_for(client, fake, status):
    script = {"script": "failing", "status": status, "failures": 1, "retry_after": 1}
    began = time.monotonic()
    events, error = await drain(client, fake, seed="later", **script)
    assert time.monotonic() - began >= 1.0
    assert (text(events), error, fake[1]["requests"]) == (expected_text("later", 20), None, 2)


async def test_overload_that_lasts_says_when_to_come_back(client, fake):
    _, error = await drain(client, fake, script="failing", status=429, retry_after=60)
    assert (type(error), error.retry_after, fake[1]["requests"]) == (UpstreamRateLimited, 60.0, 1)
    _, error = await drain(client, fake, script="failing", seed="2", status=503, retry_after=0)
    assert (type(error), fake[1]["requests"]) == (UpstreamRateLimited, 4)


async def test_a_server_error_is_not_retried(client, fake):
    _, error = await drain(client, fake, script="failing", status=500)
    assert (type(error), error.upstream_status, fake[1]["requests"]) == (UpstreamFailed, 500, 1)


async def test_nobody_there(client):
    for url in NOWHERE:
        assert type((await drain(client, (f"{url}/v1",)))[1]) is UpstreamUnreachable


async def test_a_connection_that_is_never_accepted_is_unreachable():
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())  # fills the backlog
        async with aclosing(OpenAI(stall=1.0, first_token=0.4, connect=0.2)) as client:
            _, error = await drain(client, (f"http://127.0.0.1:{listener.getsockname()[1]}/v1",))
    assert type(error) is UpstreamUnreachable


async def test_a_dropped_connection_is_retried_before_the_first_token(fake, patient):
    events, error = await drain(patient, fake, seed="d", script="dropped", failures=1)
    assert (text(events), error, fake[1]["requests"]) == (expected_text("d", 20), None, 2)


@pytest.mark.parametrize("late", ["head_after", "first_after"])
async def test_the_first_token_has_its_own_patience(fake, client, late):
    events, error = await drain(client, fake, seed="l", **{late: LATE})
    assert (text(events), error) == (expected_text("l", 20), None)
    assert type((await drain(client, fake, **{late: 30}))[1]) is UpstreamStall


async def test_a_reader_that_takes_its_time_is_no_stall(client, fake):
    tray = Tray()
    tray.open.clear()
    upstream = client.upstream(Server(fake[0], KEY))
    reading = asyncio.create_task(upstream(request(seed="t", tokens=500, rate=2000), tray))
    await tray.pushed.wait()
    await asyncio.sleep(LATE)
    held = len(tray.events)
    tray.open.set()
    assert isinstance(await reading, Done)
    assert held < 500
    assert text(tray.events) == expected_text("t", 500)


async def test_the_models_are_listed(client, fake):
    assert await client.models(Server(fake[0], KEY)) == ["fake", "m"]
    with pytest.raises(UpstreamRejected):
        await client.models(Server(f"{fake[0]}/nowhere", KEY))


async def test_more_than_one_choice_is_refused_before_asking(client, fake):
    _, error = await drain(client, fake, n=2)
    assert (type(error), fake[1]["requests"]) == (UpstreamRejected, 0)


@pytest.mark.parametrize("full", [False, True])
async def test_leaving_closes_the_connection_at_once(client, fake, full):
    upstream = client.upstream(Server(fake[0], KEY))
    await leave(upstream, full, seed="c", tokens=10_000, rate=50)
    await until(lambda: fake[1]["closed"])
    assert fake[1]["closed"][0]["closed_by_peer"]


def test_a_key_is_never_shown():
    assert KEY not in repr(Server("http://x", KEY))


async def test_silence_after_a_late_first_token_is_a_stall(fake, patient):
    asked = time.monotonic()
    events, error = await drain(patient, fake, seed="q", script="stall", first_after=0.2)
    assert (text(events), type(error)) == (expected_text("q", 20), UpstreamStall)
    assert time.monotonic() - asked < 30
