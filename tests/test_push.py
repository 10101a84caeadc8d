"""Pushing into a running server: over real sockets, with curl, from programs that vanish."""

import asyncio
import re
import signal
from contextlib import suppress

import aiohttp
import orjson
import pytest

from server.events import Content, Done, encode
from tests import clients, sources
from tests.clients import collect, control, seqs, session, text_of
from tests.waiting import HANG

NDJSON = {"Content-Type": "application/x-ndjson"}


def line(text):
    return encode(Content(text)) + b"\n"


DONE = encode(Done()) + b"\n"


@pytest.fixture
async def hasty(make_node):
    """A node that does not wait long for who broke off."""
    return await make_node(push_grace=0.3)


async def start(http, node, **body):
    """Start a session that is pushed; return its id and the address of its events."""
    async with http.post(node.url("/v1/sessions"), json={"upstream": "push"} | body) as response:
        session = await response.json()
        assert response.status == 201, session
        return session["id"], node.url(f"/v1/sessions/{session['id']}/events")


async def push(http, url, data, **headers):
    """Push a body; return the status and the answer."""
    async with http.post(url, data=data, headers=NDJSON | headers) as response:
        return response.status, await response.json()


class Pipe:
    """A body that is written while it is sent."""

    def __init__(self):
        self.sent = 0
        self._pieces = asyncio.Queue(1)

    async def write(self, piece):
        await self._pieces.put(piece)

    async def close(self):
        await self._pieces.put(None)

    async def __aiter__(self):
        while (piece := await self._pieces.get()) is not None:
            yield piece
            self.sent += len(piece)


async def begun(http, node):
    """Start a session, and a body whose first line has come; return all four."""
    sid, url = await start(http, node)
    pipe = Pipe()
    pushing = asyncio.create_task(push(http, url, pipe))
    await pipe.write(line("a"))
    await collect(clients.sse(http, node, sid), count=1)
    return sid, url, pipe, pushing


async def test_what_is_pushed_is_read_as_it_comes(node, http):
    sid, url = await start(http, node)
    pipe, reader = Pipe(), clients.sse(http, node, sid)
    pushing = asyncio.create_task(push(http, url, pipe))
    assert (await anext(reader))["facts"]["model"] == "push"
    for word in ("one ", "two "):
        await pipe.write(line(word))
        assert (await anext(reader))["content"] == word
    await pipe.write(DONE)
    assert (await anext(reader))["type"] == "done"
    status, answer = await asyncio.wait_for(pushing, HANG)
    epoch = answer["id"].partition("-")[0]
    assert (status, answer) == (200, {
        "session": sid, "id": f"{epoch}-3", "status": "done", "duplicate": False,
    })  # fmt: skip
    await reader.aclose()


async def test_bodies_go_on_where_the_one_before_ended(node, http):
    sid, url = await start(http, node, model="mine", prompt="what was asked")
    assert (await push(http, url, line("a")))[1]["status"] == "running"
    assert (await push(http, url, b"data: [DONE]\n\n", **{"Content-Type": "text/event-stream"}))[0] == 200
    events = await collect(clients.sse(http, node, sid))
    assert (text_of(events), events[-1]["type"], seqs(events)) == ("a", "done", [1, 2])
    assert (await session(http, node, sid))["model"] == "mine"
    assert (await push(http, url, line("b")))[1]["error"]["code"] == "session_closed"


async def curl(*arguments):
    return await asyncio.create_subprocess_exec(
        "curl", "-s", *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("post", [(), ("-X", "POST")])
async def test_a_program_piped_into_curl(node, http, post):
    sid, url = await start(http, node)
    process, reader = await curl(*post, "-T-", f"{url}?final=done"), clients.sse(http, node, sid)
    await anext(reader)
    for word in ("Hello", ", ", "wörld\n"):
        process.stdin.write(word.encode())
        await process.stdin.drain()
        assert (await anext(reader))["content"] == word
    process.stdin.close()
    answer = orjson.loads(await asyncio.wait_for(process.stdout.read(), HANG))
    assert (answer["status"], await process.wait()) == ("done", 0)
    assert [item["type"] async for item in reader] == ["done"]


async def test_a_program_piped_into_curl_may_send_events(node, http):
    sid, url = await start(http, node)
    words = [sources.token("c", place) for place in range(2000)]
    process = await curl("-T-", "-H", "Content-Type: application/x-ndjson", url)
    out, _ = await process.communicate(b"".join(map(line, words)) + DONE)
    assert orjson.loads(out)["id"].endswith("-2001")
    events = await collect(clients.ndjson(http, node, sid))
    assert (text_of(events), seqs(events)) == ("".join(words), list(range(1, 2002)))


async def test_a_program_that_is_killed_is_lost_after_the_grace(hasty, http):
    sid, url = await start(http, hasty)
    process, reader = await curl("-T-", url), clients.sse(http, hasty, sid)
    await anext(reader)
    process.stdin.write(b"half")
    assert (await anext(reader))["content"] == "half"
    process.kill()
    await process.wait()
    killed = asyncio.get_running_loop().time()
    (final,) = [item async for item in reader]
    assert (final["type"], final["code"], final["retryable"]) == ("error", "producer_lost", True)
    assert asyncio.get_running_loop().time() - killed > 0.25


async def test_a_body_that_broke_off_is_sent_again_under_its_number(node, http):
    sid, url = await start(http, node)
    words = [line(sources.token("r", place)) for place in range(50)]
    for count in (10, 30):
        pipe, reader = Pipe(), clients.sse(http, node, sid)
        pushing = asyncio.create_task(push(http, url, pipe, **{"Producer-Seq": "1"}))
        await pipe.write(b"".join(words[:count]) + words[count][:5])
        await collect(reader, count=count)
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
    for duplicate in (False, True):
        status, answer = await push(http, url, b"".join(words), **{"Producer-Seq": "1"})
        assert (status, answer["status"], answer["duplicate"]) == (200, "running", duplicate)
    for duplicate in (False, True):
        status, answer = await push(http, url, DONE, **{"Producer-Seq": "2"})
        assert (status, answer["status"], answer["duplicate"]) == (200, "done", duplicate)
    events = await collect(clients.sse(http, node, sid))
    assert (text_of(events), seqs(events)) == (sources.text("r", 50), list(range(1, 52)))


async def test_a_number_that_is_not_the_next_is_refused(node, http):
    _, url = await start(http, node)
    assert (await push(http, url, line("a"), **{"Producer-Seq": "4"}))[0] == 200
    status, answer = await push(http, url, line("b"), **{"Producer-Seq": "6"})
    assert (status, answer["error"]["code"]) == (409, "push_conflict")


async def test_only_one_body_at_a_time(node, http):
    _, url, pipe, pushing = await begun(http, node)
    status, answer = await push(http, url, line("b"))
    assert (status, answer["error"]["code"]) == (409, "push_conflict")
    await pipe.write(DONE)
    assert (await pushing)[1]["status"] == "done"


async def test_a_bad_line_is_refused_and_changes_nothing(node, http):
    sid, url = await start(http, node)
    status, answer = await push(http, url, line("a") + b"{bad\n" + line("b"))
    assert (status, answer["error"]["code"]) == (400, "bad_event")
    await push(http, url, line("c") + DONE)
    assert text_of(await collect(clients.sse(http, node, sid))) == "ac"


@pytest.mark.parametrize("hold_limit", [0, 1000])
async def test_while_paused_the_body_is_read_no_further_than_may_be_held(make_node, http, hold_limit):
    node = await make_node(max_bytes=1 << 30)
    sid, url = await start(http, node, session={"hold_limit": hold_limit})
    pipe, piece, total = Pipe(), line("x" * 990), 20_000
    reader = clients.sse(http, node, sid)
    pushing = asyncio.create_task(push(http, url, pipe))
    await pipe.write(piece)
    assert [(await anext(reader))["type"] for _ in range(2)] == ["session", "content"]
    assert (await control(http, node, sid, "pause"))["gate"] == 1

    async def write():
        for _ in range(total - 1):
            await pipe.write(piece)
        await pipe.write(DONE)

    writing = asyncio.create_task(write())
    with suppress(TimeoutError):  # until it stands still, for as long as it takes to be sure
        while True:
            sent = pipe.sent
            async with asyncio.timeout(0.5):
                while pipe.sent == sent:
                    await asyncio.sleep(0.01)
    assert pipe.sent < total * len(piece) / 2
    held = (await session(http, node, sid))["seq"]
    assert held <= 2 + (hold_limit + 512 * 1024) // len(piece)
    await control(http, node, sid, "resume")
    events = await collect(reader)
    await writing
    assert ((await pushing)[1]["status"], len(events)) == ("done", total)


async def test_while_redis_stands_still_the_body_waits_too(make_node, own_redis, http):
    node = await make_node(redis_url=own_redis.url, buffer_limit=10_000, max_tokens=1_000_000)
    sid, url = await start(http, node)
    pipe, piece = Pipe(), line("x" * 990)
    pushing = asyncio.create_task(push(http, url, pipe))
    await pipe.write(piece)
    await collect(clients.sse(http, node, sid), count=1)
    own_redis.process.send_signal(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    stopped, count = loop.time(), 1
    while loop.time() - stopped < 2:
        with suppress(TimeoutError):
            await asyncio.wait_for(pipe.write(piece), 0.2)
            count += 1
    own_redis.process.send_signal(signal.SIGCONT)
    await pipe.write(DONE)
    status, answer = await asyncio.wait_for(pushing, HANG)
    assert (status, answer["id"].partition("-")[2]) == (200, str(count + 1))
    assert count < 13_000  # what sockets hold, and no more; unhindered it takes ten times that


async def test_an_abort_is_told_to_the_program(node, http):
    sid, _, _, pushing = await begun(http, node)
    answer = await control(http, node, sid, "abort")
    assert (answer["status"], answer["upstream_closed"]) == ("aborted", True)
    status, refused = await asyncio.wait_for(pushing, HANG)
    assert (status, refused["error"]["code"]) == (409, "session_closed")


async def test_a_limit_ends_the_session_and_the_push(make_node, http):
    node = await make_node(max_tokens=5)
    sid, url = await start(http, node)
    status, answer = await push(http, url, b"".join(line(str(n)) for n in range(9)))
    assert (status, answer["error"]["code"]) == (409, "session_closed")
    events = await collect(clients.sse(http, node, sid))
    assert (text_of(events), events[-1]["reason"]) == ("01234", "limit")


async def test_silence_ends_the_session(make_node, http):
    node = await make_node(upstream_stall=0.3)
    sid, url = await start(http, node)
    await push(http, url, line("a"))
    events = await collect(clients.sse(http, node, sid))
    assert (text_of(events), events[-1]["code"]) == ("a", "upstream_stall")


async def test_another_node_says_what_to_do(make_node, http):
    here, there = await make_node(), await make_node()
    sid, url = await start(http, here)
    elsewhere = there.url(f"/v1/sessions/{sid}/events")
    async with http.post(elsewhere, data=line("a"), headers=NDJSON) as response:
        assert (response.status, response.headers["Connection"]) == (421, "close")
        assert (await response.json())["error"]["code"] == "wrong_node"
    await push(http, url, line("a") + DONE)
    assert text_of(await collect(clients.sse(http, there, sid))) == "a"
    assert (await push(http, elsewhere, line("b")))[1]["error"]["code"] == "session_closed"


async def test_with_several_workers_a_new_connection_is_another_try(make_process, http):
    node = await make_process(workers=2, drain=0.2)
    sid, url = await start(http, node)
    tries = 0
    while (await push(http, url, line("a"), **{"Producer-Seq": "1"}))[0] == 421:
        tries += 1
        assert tries < 100
    events = await collect(clients.sse(http, node, sid), count=1)
    assert text_of(events) == "a"


async def test_when_the_node_is_killed_the_session_is_lost_within_its_lease(make_process, http):
    doomed, other = [await make_process(lease=1, drain=0.2) for _ in range(2)]
    sid, url = await start(http, doomed)
    reader = clients.sse(http, other, sid)
    await push(http, url, line("a"))
    assert [(await anext(reader))["type"] for _ in range(2)] == ["session", "content"]
    await doomed.end()
    (final,) = [item async for item in reader]
    assert (final["type"], final["code"]) == ("error", "producer_lost")
    elsewhere = other.url(f"/v1/sessions/{sid}/events")
    assert (await push(http, elsewhere, line("b")))[1]["error"]["code"] == "session_closed"


UNKNOWN = "/v1/sessions/" + "u" * 32 + "/events"
REFUSED = [
    (UNKNOWN, {}, 404, "not_found"),
    ("{url}?final=maybe", {}, 400, "invalid_request"),
    ("{url}", {"Producer-Seq": "x"}, 400, "invalid_request"),
    ("{url}", {"Producer-Seq": "-1"}, 400, "invalid_request"),
    ("{url}", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
    ("{url}", {"Origin": "https://evil.example"}, 403, "forbidden"),
]


@pytest.mark.parametrize(("where", "headers", "status", "code"), REFUSED)
async def test_what_is_wrong_is_said(node, http, where, headers, status, code):
    _, url = await start(http, node)
    where = where.format(url=url) if "url" in where else node.url(where)
    found, answer = await push(http, where, line("a"), **headers)
    assert (found, answer["error"]["code"]) == (status, code)


async def test_only_a_session_that_was_started_so_is_pushed_into(make_node, http):
    node = await make_node({"stepped": sources.Stepped()})
    sid = await clients.start(http, node)
    status, answer = await push(http, node.url(f"/v1/sessions/{sid}/events"), line("a"))
    assert (status, answer["error"]["code"]) == (409, "push_conflict")
    async with http.post(node.url("/v1/sessions"), json={"upstream": "http://x"}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")
    async with http.post(node.url("/v1/sessions"), json={"model": "push"}) as response:
        assert response.status == 201


HALVES = {
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"zz\r\n"),
    "no last chunk": (b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b""),
    "length": (b"Content-Length: 9\r\n\r\na", b""),
}


@pytest.mark.parametrize("half", HALVES)
async def test_a_body_that_is_cut_or_none_of_http_is_no_clean_end(hasty, http, half):
    sid, url = await start(http, hasty)
    port, path = re.search(r":(\d+)(/.*)", url).groups()
    before, after = HALVES[half]
    reader = clients.sse(http, hasty, sid)
    _, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(f"POST {path}?final=done HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode() + before)
    assert [(await anext(reader))["type"] for _ in range(2)] == ["session", "content"]
    writer.write(after)
    writer.close()
    (final,) = [item async for item in reader]
    assert (final["type"], final["code"]) == ("error", "producer_lost")


async def test_a_client_of_the_usual_kind_may_push_and_read_over_one_session(node):
    async with aiohttp.ClientSession() as one:
        sid, url = await start(one, node)
        async with one.ws_connect(node.url(f"/v1/sessions/{sid}/ws")) as ws:
            await push(one, url, line("a") + DONE)
            kinds = [orjson.loads(message.data)["type"] async for message in ws]
    assert (kinds, ws.close_code) == (["session", "content", "done"], 1000)
