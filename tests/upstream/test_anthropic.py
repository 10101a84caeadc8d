"""Rows U1-U13 for Anthropic's Messages, over real sockets."""

import gzip

import orjson
import pytest

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamStall,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from server.events import Content, Done
from server.upstream.anthropic import VERSION, Anthropic
from server.upstream.caller import Server
from server.upstream.sse_parser import MAX_EVENT
from tests.raw_server import CHUNKED, CLOSE, HANG, RESET, chunk, chunks, head, refusal
from tests.upstream import messages
from tests.upstream.runs import KEY, LATE, NOWHERE, client_of, leave, outcome, server_of
from tests.waiting import until

SSE = head("text/event-stream; charset=utf-8", CHUNKED)
WORDS = [f"{place} 🙂\n\nevent: error\ndata: {{}} " for place in range(20)]
SAID = [Content(word) for word in WORDS]
TEXT = messages.text(0, *WORDS)
BEGUN = messages.START + messages.PING + TEXT
WHOLE = messages.stream(TEXT)
SECRET = b'{"type":"error","error":{"type":"x","message":"the key sk-secret is bad"}}'


def _sends(body, *after):
    return [SSE, chunk(body), *after]


def _endless():
    yield SSE
    yield chunk(messages.START)
    while True:
        yield chunk(messages.delta(0, "text_delta", text="x"))
        yield 0.01


SCRIPTS = {
    "whole": lambda asked: [SSE, *chunks(WHOLE, asked.body.get("split", 0))],
    "crlf": lambda asked: [SSE, *chunks(WHOLE.replace(b"\n", b"\r\n"), 7)],
    "pings": lambda asked: _sends(messages.START, *[chunk(messages.PING), 0.05] * 12, *chunks(WHOLE)),
    "late": lambda asked: [LATE, *_sends(BEGUN, *chunks(messages.close("end_turn") + messages.STOP))],
    "plain": lambda asked: [head("application/json", CHUNKED), *chunks(orjson.dumps(
        {"content": [{"type": "text", "text": word} for word in WORDS], "stop_reason": "end_turn"}
    ))],
    "truncated": lambda asked: _sends(BEGUN, chunk(b"")),
    "cut": lambda asked: _sends(BEGUN, RESET),
    "closed": lambda asked: _sends(BEGUN, CLOSE),
    "malformed": lambda asked: _sends(BEGUN + b"data: {sk-1\n\n", chunk(WHOLE), chunk(b"")),
    "error": lambda asked: _sends(BEGUN + messages.error("api_error"), chunk(b"")),
    "overloaded": lambda asked: _sends(BEGUN + messages.error("overloaded_error"), chunk(b"")),
    "giant": lambda asked: _sends(BEGUN, chunk(b"data: " + b"x" * (4 * MAX_EVENT) + b"\n\n"), HANG),
    "stall": lambda asked: _sends(BEGUN, HANG),
    "silent": lambda asked: [HANG],
    "only pings": lambda asked: _sends(messages.START, *[chunk(messages.PING), 0.1] * 100),
    "redirect": lambda asked: [
        head("a/b", b"Location: http://169.254.169.254/", b"Content-Length: 0", status=302),
    ],
    "page": lambda asked: [head("text/html", CHUNKED), *chunks(b"<html>")],
    "gzip": lambda asked: [
        head("text/event-stream", CHUNKED, b"Content-Encoding: gzip"), *chunks(gzip.compress(WHOLE)),
    ],
    "garbage": lambda asked: [b"220 sk-1 ESMTP\r\n\r\n", HANG],
    "endless": lambda asked: _endless(),
}  # fmt: skip


def _script(server, asked):
    if "status" in asked.body and len(server.asked) <= asked.body.get("failures", 9):
        return refusal(asked, SECRET)
    return SCRIPTS[asked.body.get("script", "whole")](asked)


client = client_of(Anthropic)
fake = server_of(_script)


async def drain(client, server, **parameters):
    url = getattr(server, "url", server)
    return await outcome(client.upstream(Server(url, KEY)), **parameters)


async def test_what_is_asked_for_and_how(client, fake):
    await drain(client, fake, temperature=0.5, seed=1)
    (asked,) = fake.asked
    assert (asked.line, asked.headers["x-api-key"]) == ("POST /v1/messages HTTP/1.1", KEY)
    assert (asked.headers["anthropic-version"], "authorization" in asked.headers) == (VERSION, False)
    assert asked.body == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5,
        "max_tokens": 4096, "stream": True,
    }  # fmt: skip


@pytest.mark.parametrize("split", [0, 1, 5])
async def test_a_whole_stream_is_read_exactly(client, fake, split):
    assert await drain(client, fake, split=split) == ([*SAID, Done("stop", messages.USAGE)], None)


@pytest.mark.parametrize("script", ["crlf", "pings", "late"])
async def test_the_stream_may_come_in_other_ways(client, fake, script):
    assert await drain(client, fake, script=script) == ([*SAID, Done("stop", messages.USAGE)], None)


async def test_an_answer_that_is_not_streamed_is_taken_whole(client, fake):
    assert await drain(client, fake, script="plain") == ([*SAID, Done("stop")], None)


FAILURES = {
    "truncated": (UpstreamTruncated, SAID),
    "cut": (UpstreamTruncated, SAID),
    "closed": (UpstreamTruncated, SAID),
    "malformed": (UpstreamInvalid, SAID),
    "error": (UpstreamFailed, SAID),
    "overloaded": (UpstreamRateLimited, SAID),
    "giant": (UpstreamInvalid, SAID),
    "stall": (UpstreamStall, SAID),
    "silent": (UpstreamStall, []),
    "only pings": (UpstreamStall, []),
    "redirect": (UpstreamRejected, []),
    "page": (UpstreamInvalid, []),
    "gzip": (UpstreamInvalid, []),
    "garbage": (UpstreamInvalid, []),
}


@pytest.mark.parametrize("script", FAILURES)
async def test_a_failure_is_typed_and_keeps_the_prefix(client, fake, caplog, script):
    kind, said = FAILURES[script]
    events, error = await drain(client, fake, script=script)
    assert (type(error), events) == (kind, said)
    assert "sk-" not in str(error) + repr(error) + caplog.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
async def test_a_refusal_is_not_retried(client, fake, caplog, status):
    _, error = await drain(client, fake, status=status)
    assert (type(error), error.upstream_status, error.retryable) == (UpstreamRejected, status, False)
    assert (len(fake.asked), "sk-" in str(error) + caplog.text) == (1, False)


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_overload_is_retried_before_the_first_token(client, fake, status):
    events, error = await drain(client, fake, status=status, failures=2, retry_after=0)
    assert (events[:-1], error, len(fake.asked)) == (SAID, None, 3)


async def test_overload_that_lasts_says_when_to_come_back(client, fake):
    _, error = await drain(client, fake, status=529, retry_after=60)
    assert (type(error), error.retry_after, error.upstream_status) == (UpstreamRateLimited, 60.0, 529)
    assert len(fake.asked) == 1


async def test_a_server_error_is_not_retried(client, fake):
    _, error = await drain(client, fake, status=500)
    assert (type(error), error.upstream_status, len(fake.asked)) == (UpstreamFailed, 500, 1)


async def test_nobody_there(client):
    for url in NOWHERE:
        assert type((await drain(client, url))[1]) is UpstreamUnreachable


async def test_what_it_cannot_be_asked_for_is_refused_before_asking(client, fake):
    _, error = await drain(client, fake, n=2)
    assert (type(error), fake.asked) == (UpstreamRejected, [])


@pytest.mark.parametrize("full", [False, True])
async def test_leaving_closes_the_connection_at_once(client, fake, full):
    await leave(client.upstream(Server(fake.url, KEY)), full, script="endless")
    await until(lambda: fake.closed)


async def test_the_connection_is_used_again(client, fake):
    for _ in range(3):
        await drain(client, fake)
    assert (len(fake.asked), fake.closed) == (3, 0)
