"""Rows U1-U13 for any streaming body of a configured address, over real sockets."""

import asyncio
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
from server.events import Bytes, Content, Done, merge
from server.upstream.caller import Server
from server.upstream.http import Http
from server.upstream.sse_parser import MAX_EVENT
from tests.raw_server import CHUNKED, CLOSE, HANG, RESET, chunk, chunks, head, refusal
from tests.upstream.runs import KEY, LATE, NOWHERE, Tray, client_of, leave, outcome, request, server_of
from tests.waiting import until

WORDS = [f"{place} 🙂\n\r\n“” " for place in range(20)]
SAID = [Content(word) for word in WORDS]
SSE, NDJSON, TEXT, AUDIO = "text/event-stream", "application/x-ndjson", "text/plain", "audio/mpeg"
SOUND = bytes(range(256)) * 8
BODIES = {
    SSE: b"".join(b"data: %b\n\n" % orjson.dumps({"response": word}) for word in WORDS),
    NDJSON: b"".join(orjson.dumps({"response": word}) + b"\n" for word in WORDS),
    TEXT: "".join(WORDS).encode(),
    AUDIO: SOUND,
}
ENDS = {SSE: b"data: [DONE]\n\n", NDJSON: b'{"response":"","done":true}\n', TEXT: b"", AUDIO: b""}
JUNK = {
    SSE: b"data: {sk-1\n\n",
    NDJSON: b"{sk-1\n",
    TEXT: b"\xff",
}
GIANT = {SSE: b"data: " + b"x" * (2 * MAX_EVENT), NDJSON: b"x" * (2 * MAX_EVENT)}
ERROR = {SSE: b'data: {"error":{"message":"sk-1"}}\n\n', NDJSON: b'{"error":"sk-1"}\n'}
SECRET = b'{"errors":[{"message":"the key sk-secret is bad"}]}'
LINK_LOCAL = b"Location: http://169.254.169.254/latest"


def _kind(asked):
    return asked.body["type"]


def _sends(asked, *after):
    return [head(_kind(asked), CHUNKED), chunk(BODIES[_kind(asked)]), *after]


def _whole(asked):
    kind = _kind(asked)
    return [head(kind, CHUNKED), *chunks(BODIES[kind] + ENDS[kind], asked.body.get("split", 0))]


def _closing(asked):
    return [head(_kind(asked), b"Connection: close"), BODIES[_kind(asked)], CLOSE]


def _endless(asked):
    yield head(TEXT, CHUNKED)
    while True:
        yield chunk(b"x")
        yield 0.01


SCRIPTS = {
    "whole": _whole,
    "long": lambda a: [head(_kind(a), b"Content-Length: %d" % len(BODIES[_kind(a)])), BODIES[_kind(a)]],
    "late": lambda a: [LATE, *_whole(a)],
    "closing": _closing,
    "cut": lambda a: _sends(a, RESET),
    "closed": lambda a: _sends(a, CLOSE),
    "junk": lambda a: _sends(a, chunk(JUNK[_kind(a)]), chunk(BODIES[_kind(a)]), chunk(b"")),
    "giant": lambda a: _sends(a, chunk(GIANT[_kind(a)]), HANG),
    "error": lambda a: _sends(a, chunk(ERROR[_kind(a)]), chunk(b"")),
    "stall": lambda a: _sends(a, HANG),
    "silent": lambda a: [head(_kind(a), CHUNKED), HANG],
    "redirect": lambda a: [head("a/b", LINK_LOCAL, b"Content-Length: 0", status=307)],
    "gzip": lambda a: [
        head(_kind(a), CHUNKED, b"Content-Encoding: gzip"), *chunks(gzip.compress(BODIES[_kind(a)])),
    ],
    "garbage": lambda a: [b"220 sk-1 ESMTP\r\n\r\n", HANG],
    "endless": _endless,
}  # fmt: skip


def _script(server, asked):
    body = asked.body
    if body is None:
        return [head(TEXT, CHUNKED), *chunks(b"got")]
    if "status" in body and len(server.asked) <= body.get("failures", 9):
        return refusal(asked, SECRET)
    return SCRIPTS[body.get("script", "whole")](asked)


client = client_of(Http)
fake = server_of(_script)


async def drain(client, server, kind=SSE, **parameters):
    url = f"{getattr(server, 'url', server)}/run/llama?key=sk-query"
    return await outcome(client.upstream(Server(url, KEY)), **parameters, type=kind)


def said(events, kind):
    """Return whether these are just the words, whatever the pieces."""
    if kind == AUDIO:
        return b"".join(e.data for e in events if isinstance(e, Bytes)) == SOUND
    if kind == TEXT:
        return [merged.event for merged in merge(events)] == [Content("".join(WORDS))]
    return events == SAID


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("split", [0, 1, 7])
async def test_a_body_of_each_kind_is_read_exactly(client, fake, kind, split):
    *events, end = (await drain(client, fake, kind, split=split))[0]
    assert (said(events, kind), end) == (True, Done())


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("script", ["long", "late"])
async def test_a_body_may_come_in_other_ways(client, fake, kind, script):
    *events, end = (await drain(client, fake, kind, script=script))[0]
    assert (said(events, kind), end) == (True, Done())


async def test_what_is_asked_for_and_how(client, fake):
    await drain(client, fake, temperature=0.5)
    (asked,) = fake.asked
    assert (asked.line, asked.headers["authorization"]) == (
        "POST /run/llama?key=sk-query HTTP/1.1", f"Bearer {KEY}",
    )  # fmt: skip
    assert asked.body == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True,
        "temperature": 0.5, "type": SSE,
    }  # fmt: skip


async def test_an_address_may_be_asked_with_get(client, fake):
    tray = Tray()
    end = await client.upstream(Server(f"{fake.url}/a"), "GET")(request(secret="x"), tray)
    (asked,) = fake.asked
    assert (asked.line, asked.body, "authorization" in asked.headers) == ("GET /a HTTP/1.1", None, False)
    assert (tray.events, end) == ([Content("got")], Done())


EVERY = tuple(BODIES)
FAILURES = [
    *(("cut", kind, UpstreamTruncated) for kind in EVERY),
    *(("closed", kind, UpstreamTruncated) for kind in EVERY),
    *(("closing", kind, UpstreamTruncated) for kind in EVERY),
    *(("stall", kind, UpstreamStall) for kind in EVERY),
    *(("junk", kind, UpstreamInvalid) for kind in JUNK),
    *(("giant", kind, UpstreamInvalid) for kind in GIANT),
    *(("error", kind, UpstreamFailed) for kind in ERROR),
]


@pytest.mark.parametrize(("script", "kind", "error"), FAILURES)
async def test_a_failure_is_typed_and_keeps_the_prefix(client, fake, caplog, script, kind, error):
    events, raised = await drain(client, fake, kind, script=script)
    assert (type(raised), said(events, kind)) == (error, True)
    assert "sk-" not in str(raised) + repr(raised) + caplog.text


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("silent", UpstreamStall),
        ("redirect", UpstreamRejected),
        ("gzip", UpstreamInvalid),
        ("garbage", UpstreamInvalid),
    ],
)
async def test_a_failure_before_the_first_token_is_typed(client, fake, caplog, script, error):
    events, raised = await drain(client, fake, script=script)
    assert (type(raised), events, len(fake.asked)) == (error, [], 1)
    assert "sk-" not in str(raised) + repr(raised) + caplog.text


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_is_not_retried(client, fake, caplog, status):
    _, error = await drain(client, fake, status=status)
    assert (type(error), error.upstream_status, len(fake.asked)) == (UpstreamRejected, status, 1)
    assert "sk-" not in str(error) + caplog.text


@pytest.mark.parametrize("status", [429, 503])
async def test_overload_is_retried_before_the_first_token(client, fake, status):
    events, error = await drain(client, fake, status=status, failures=2, retry_after=0)
    assert (events, error, len(fake.asked)) == ([*SAID, Done()], None, 3)


async def test_overload_that_lasts_says_when_to_come_back(client, fake):
    _, error = await drain(client, fake, status=429, retry_after=60)
    assert (type(error), error.retry_after, len(fake.asked)) == (UpstreamRateLimited, 60.0, 1)


async def test_nobody_there(client):
    for url in NOWHERE:
        assert type((await drain(client, url))[1]) is UpstreamUnreachable


@pytest.mark.parametrize("full", [False, True])
async def test_leaving_closes_the_connection_at_once(client, fake, full):
    await leave(client.upstream(Server(fake.url)), full, script="endless", type=TEXT)
    await until(lambda: fake.closed)


async def test_while_the_session_is_full_nothing_is_read(client, fake):
    tray = Tray()
    upstream = client.upstream(Server(fake.url))
    reading = asyncio.create_task(upstream(request(script="endless", type=TEXT), tray))
    await tray.pushed.wait()
    tray.open.clear()
    await asyncio.sleep(LATE)  # longer than `stall`, and than eighty more pieces take
    held = len(tray.events)
    tray.open.set()
    await until(lambda: len(tray.events) > held)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert held <= 10
