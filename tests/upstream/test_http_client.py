"""The HTTP client against a server that sends exactly what it is told, over real sockets."""

import asyncio
import base64
import shutil
import socket
import ssl
import subprocess
from contextlib import closing, suppress

import pytest

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRejected,
    UpstreamStall,
    UpstreamTruncated,
    UpstreamUnreachable,
)  # fmt: skip
from server.upstream import exchange, http_client
from server.upstream.exchange import HEAD_LIMIT
from server.upstream.http_client import HttpClient
from tests import raw_server
from tests.upstream.runs import Tray
from tests.waiting import HANG as PATIENCE
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left")
MIB = 1024 * 1024
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HELLO = b"2\r\nhe\r\n3\r\nllo\r\n"
LAST = b"0\r\n\r\n"


class Caller(raw_server.Caller):
    """A caller of HTTP."""

    def __init__(self, server, reader, writer):
        super().__init__(reader, writer)
        self._server = server
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def request(self):
        """Return the next request, head and body."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
        whole = head + await self._reader.readexactly(int(length or 0))
        self._server.requests.append(whole)
        return whole

    async def left(self):
        """Wait until the client has closed the connection."""
        with suppress(ConnectionError):
            while await self._reader.read(MIB):
                pass


class Scripted:
    """A server whose script is run for each connection; what is not HTTP is as welcome."""

    def __init__(self, script):
        self.callers = []
        self.requests = []
        self.failures = []
        self._script = script
        self._running = set()
        self._serving = set()

    async def start(self, host="127.0.0.1", **options):
        self._server = await asyncio.start_server(self._serve, host, 0, **options)
        port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if options else "http"
        self.place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.url = f"{scheme}://{self.place}/"
        return self

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._running.add(task)
        self._serving.add(task)
        caller = Caller(self, reader, writer)
        self.callers.append(caller)
        try:
            await self._script(caller)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        except Exception as error:
            self.failures.append(error)
        finally:
            self._running.discard(task)
            caller.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            self._serving.discard(task)

    async def stop(self):
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._serving)
        assert self.failures == []


def answers(*pieces, close=False):
    """Return the script that answers each request with these pieces."""

    async def script(caller):
        while True:
            await caller.request()
            await caller.send(*pieces)
            if close:
                return

    return script


@pytest.fixture(autouse=True)
def long_goodbye(monkeypatch):
    """What is closed at once is not closed because its time was up."""
    monkeypatch.setattr(exchange, "GOODBYE", 10 * PATIENCE)


@pytest.fixture
async def serve(nothing_is_left):
    servers = []

    async def start(script, *where, **options):
        servers.append(await Scripted(script).start(*where, **options))
        return servers[-1]

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def client(serve):
    client = HttpClient(connect=1.0)
    yield client
    await client.aclose()


def soon(seconds=PATIENCE):
    return asyncio.get_running_loop().time() + seconds


async def ask(client, server, **headers):
    return await client.ask("GET", server.url, headers, b"", soon())


async def fetch(client, server):
    """Return the status and the whole body."""
    with closing(await ask(client, server)) as answer:
        return answer.status, await client.read(answer, MIB, soon())


WHOLE = {
    "length": PLAIN,
    "chunked": CHUNKED + HELLO + LAST,
    "extensions": CHUNKED + b'5;name=value;other="x"\r\nhello\r\n' + LAST,
    "trailers": CHUNKED + HELLO + b"0\r\nX-Sum: 1\r\nContent-Type: a/b\r\n\r\n",
    "provisional": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + PLAIN,
}


@pytest.mark.parametrize("name", WHOLE)
async def test_an_answer_is_the_same_wherever_it_is_cut(client, serve, name):
    whole = WHOLE[name]
    cuts = iter(range(1, len(whole)))

    async def script(caller):
        for cut in cuts:
            await caller.request()
            await caller.send(whole[:cut], whole[cut:])

    server = await serve(script)
    read = [await fetch(client, server) for _ in range(1, len(whole))]
    assert read == [(200, b"hello")] * (len(whole) - 1)
    assert len(server.callers) == 1


@pytest.mark.parametrize("name", WHOLE)
async def test_an_answer_may_come_byte_by_byte(client, serve, name):
    server = await serve(answers(*[bytes([byte]) for byte in WHOLE[name]]))
    assert [await fetch(client, server) for _ in range(2)] == [(200, b"hello")] * 2
    assert len(server.callers) == 1


@pytest.mark.parametrize("body", [(b"hello",), (b"he", b"llo"), (b"h", b"e", b"l", b"l", b"o")])
async def test_a_body_without_a_length_ends_with_its_connection(client, serve, body):
    server = await serve(answers(ENDLESS, *body, close=True))
    assert [await fetch(client, server) for _ in range(2)] == [(200, b"hello")] * 2
    assert len(server.callers) == 2


@pytest.mark.parametrize(
    "status", [b"204 No Content", b"304 Not Modified", b"200 OK\r\nContent-Length: 0"]
)
async def test_a_body_may_be_nothing_at_all(client, serve, status):
    server = await serve(answers(b"HTTP/1.1 " + status + b"\r\n\r\n"))
    assert [await fetch(client, server) for _ in range(2)] == [(int(status[:3]), b"")] * 2
    assert len(server.callers) == 1


async def test_what_a_head_says(client, serve):
    head = b"HTTP/1.1 418 I'm a teapot\r\nX-A: 1\r\nx-a:  two \r\nContent-Type: Text/Plain; charset=x\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\nX-A: 0\r\n\r\n"
    server = await serve(answers(early + head + b"\r\n", close=True))
    answer = await ask(client, server)
    assert (answer.status, answer.headers.getall("X-A"), answer.content_type) == (
        418, ["1", "two"], "text/plain",
    )  # fmt: skip
    answer.close()


async def test_trailers_are_not_taken_for_headers(client, serve):
    server = await serve(answers(WHOLE["trailers"]))
    with closing(await ask(client, server)) as answer:
        await client.read(answer, MIB, soon())
    assert list(answer.headers.items()) == [("Transfer-Encoding", "chunked")]
    assert answer.content_type == "application/octet-stream"


BROKEN = {
    "length": PLAIN[:-1],
    "no byte of a length": PLAIN[:-5],
    "between chunks": CHUNKED + HELLO,
    "in a chunk": CHUNKED + HELLO[:-4],
    "in a chunk's size": CHUNKED + b"1",
    "in the last chunk": CHUNKED + HELLO + LAST[:-2],
    "in a trailer": CHUNKED + HELLO + b"0\r\nX-Su",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_body_that_breaks_off_is_truncated(client, serve, name):
    server = await serve(answers(BROKEN[name], close=True))
    with pytest.raises(UpstreamTruncated):
        await fetch(client, server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
async def test_a_connection_closed_before_a_head_is_unreachable(client, serve, sent):
    server = await serve(answers(sent, close=True))
    with pytest.raises(UpstreamUnreachable):
        await fetch(client, server)
    assert len(server.requests) == 1


GARBAGE = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "no version": b"HTTP/x 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a page": b"<html><h1>Bad gateway</h1></html>",
    "no length": b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "no header": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "no chunk": CHUNKED + b"zz\r\nhello",
    "a chunk too long": CHUNKED + b"2\r\nhello\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhi",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_what_is_not_http_is_invalid(client, serve, name):
    async def script(caller):
        await caller.request()
        await caller.send(GARBAGE[name])
        await caller.left()

    server = await serve(script)
    with pytest.raises(UpstreamInvalid):
        await fetch(client, server)
    assert len(server.requests) == 1


async def test_a_head_may_be_long(client, serve):
    line = b"X-Long: " + b"x" * 1000 + b"\r\n"
    count = HEAD_LIMIT // len(line) - 1
    server = await serve(answers(PLAIN[:17] + line * count + PLAIN[17:]))
    assert await fetch(client, server) == (200, b"hello")


@pytest.mark.parametrize(
    "line", [b"X-Long: " + b"x" * 1000 + b"\r\n", b"\r\nHTTP/1.1 100 Continue\r\n", b"x"]
)
async def test_a_head_that_never_ends_is_invalid(client, serve, line):
    async def script(caller):
        await caller.request()
        await caller.send(PLAIN[:17] if line == b"x" else b"HTTP/1.1 100 Continue\r\n")
        for _ in range(4 * HEAD_LIMIT // 1000):
            await caller.send(line * (1 + 1000 // len(line)))
        pytest.fail("it was all read")

    with pytest.raises(UpstreamInvalid):
        await fetch(client, await serve(script))


REFUSED = [{"X-A": "a\r\nX-B: b"}, {"X-A": "a\nb"}, {"X-A": "a\rb"}, {"X-A": "a\0b"}, {"X-A\r\nX-B": "b"}]


@pytest.mark.parametrize("headers", REFUSED)
async def test_a_header_with_a_line_break_is_refused_before_asking(client, serve, headers):
    server = await serve(answers(PLAIN))
    with pytest.raises(UpstreamRejected):
        await ask(client, server, **headers)
    assert server.callers == []


async def test_a_request_is_just_what_was_asked_for(client, serve):
    server = await serve(answers(PLAIN))
    url = f"{server.url}v1/x%2Fy?a=b%20c&d=%26#part"
    (await client.ask("POST", url, {"X-A": "é"}, b"hi\r\n", soon())).close()
    assert server.requests == [
        b"POST /v1/x%2Fy?a=b%20c&d=%26 HTTP/1.1\r\n"
        + f"Host: {server.place}\r\n".encode()
        + b"Accept-Encoding: identity\r\nContent-Length: 4\r\nX-A: \xc3\xa9\r\n\r\nhi\r\n"
    ]


@pytest.mark.parametrize(
    ("userinfo", "pair"), [("me:secret", "me:secret"), ("me", "me:"), ("m%40e:%C3%A9%3A", "m@e:é:")]
)
async def test_who_is_named_in_the_url_is_who_asks(client, serve, userinfo, pair):
    server = await serve(answers(PLAIN))
    url = server.url.replace("//", f"//{userinfo}@")
    (await client.ask("GET", url, {}, b"", soon())).close()
    basic = base64.b64encode(pair.encode()).decode()
    assert server.requests == [
        f"GET / HTTP/1.1\r\nHost: {server.place}\r\nAccept-Encoding: identity\r\n"
        f"Authorization: Basic {basic}\r\n\r\n".encode()
    ]


async def test_a_key_goes_before_who_is_named_in_the_url(client, serve):
    server = await serve(answers(PLAIN))
    url = server.url.replace("//", "//me:secret@")
    (await client.ask("GET", url, {"Authorization": "Bearer key"}, b"", soon())).close()
    assert server.requests[0].count(b"Authorization") == 1
    assert b"\r\nAuthorization: Bearer key\r\n" in server.requests[0]


async def test_a_host_may_be_an_ipv6_address(client, serve):
    try:
        server = await serve(answers(PLAIN), "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    assert await fetch(client, server) == (200, b"hello")
    assert f"\r\nHost: {server.place}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "nonsense", "", "http://[bad/", "http://x:port/"])
async def test_an_url_that_leads_nowhere_is_unreachable(client, url):
    with pytest.raises(UpstreamUnreachable):
        await client.ask("GET", url, {}, b"", soon())


async def test_a_connection_is_used_again(client, serve):
    server = await serve(answers(PLAIN))
    assert [await fetch(client, server) for _ in range(3)] == [(200, b"hello")] * 3
    assert (len(server.requests), len(server.callers)) == (3, 1)


async def test_two_answers_at_once_have_a_connection_each(client, serve):
    server = await serve(answers(PLAIN))
    assert await asyncio.gather(*[fetch(client, server) for _ in range(3)]) == [(200, b"hello")] * 3
    assert [await fetch(client, server) for _ in range(3)] == [(200, b"hello")] * 3
    assert (len(server.requests), len(server.callers)) == (6, 3)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK"])
async def test_a_connection_that_will_be_closed_is_not_used_again(client, serve, head):
    server = await serve(answers(head + b"\r\nContent-Length: 5\r\n\r\nhello"))
    assert [await fetch(client, server) for _ in range(2)] == [(200, b"hello")] * 2
    assert len(server.callers) == 2


async def test_a_connection_kept_for_too_long_is_not_used_again(client, serve, monkeypatch):
    monkeypatch.setattr(http_client, "KEPT", 0.0)
    server = await serve(answers(PLAIN))
    assert [await fetch(client, server) for _ in range(2)] == [(200, b"hello")] * 2
    assert len(server.callers) == 2


async def test_a_connection_that_nobody_uses_is_closed(client, serve, monkeypatch):
    monkeypatch.setattr(http_client, "KEPT", 0.05)
    closed = asyncio.Event()

    async def script(caller):
        await caller.request()
        await caller.send(PLAIN)
        await caller.left()
        closed.set()

    assert await fetch(client, await serve(script)) == (200, b"hello")
    await asyncio.wait_for(closed.wait(), PATIENCE)


async def test_a_kept_connection_that_was_closed_is_replaced_at_once(client, serve):
    server = await serve(answers(PLAIN, close=True))
    assert [await fetch(client, server) for _ in range(3)] == [(200, b"hello")] * 3
    assert len(server.callers) == 3


async def test_a_kept_connection_closed_instead_of_an_answer_is_replaced_at_once(client, serve):
    async def script(caller):
        await caller.request()
        await caller.send(PLAIN)
        await caller.request()

    server = await serve(script)
    assert [await fetch(client, server) for _ in range(2)] == [(200, b"hello")] * 2
    assert (len(server.requests), len(server.callers)) == (3, 2)


async def test_bytes_that_nobody_asked_for_close_a_kept_connection(client, serve):
    read, closed = asyncio.Event(), asyncio.Event()

    async def script(caller):
        await caller.request()
        await caller.send(PLAIN)
        await read.wait()
        await caller.send(PLAIN.replace(b"hello", b"false"))
        await caller.left()
        closed.set()

    server = await serve(script)
    assert await fetch(client, server) == (200, b"hello")
    read.set()
    await asyncio.wait_for(closed.wait(), PATIENCE)
    assert await fetch(client, server) == (200, b"hello")
    assert len(server.callers) == 2


@pytest.mark.parametrize("more", [PLAIN.replace(b"hello", b"false"), PLAIN[:20], b"junk\r\n"])
async def test_bytes_that_nobody_asked_for_are_no_part_of_the_answer_before_them(client, serve, more):
    server = await serve(answers(PLAIN + more))
    assert await fetch(client, server) == (200, b"hello")
    assert await asyncio.gather(*[fetch(client, server) for _ in range(2)]) == [(200, b"hello")] * 2
    assert len(server.callers) == 3


def opened(start, closed):
    """Return the script that begins an answer, and tells when the client has left it."""

    async def script(caller):
        await caller.request()
        await caller.send(start)
        await caller.left()
        closed.set()

    return script


@pytest.mark.parametrize("start", [PLAIN[:-2], CHUNKED + HELLO, CHUNKED, ENDLESS + b"hello"])
async def test_leaving_in_the_middle_closes_the_connection_at_once(client, serve, start):
    closed = asyncio.Event()
    answer = await ask(client, await serve(opened(start, closed)))
    answer.close()
    await asyncio.wait_for(closed.wait(), PATIENCE)


async def test_a_question_that_is_withdrawn_closes_the_connection_at_once(client, serve):
    asked, closed = asyncio.Event(), asyncio.Event()

    async def script(caller):
        await caller.request()
        asked.set()
        await caller.left()
        closed.set()

    asking = asyncio.create_task(ask(client, await serve(script)))
    await asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(closed.wait(), PATIENCE)


async def test_after_the_last_word_the_end_is_waited_for_and_the_connection_kept(client, serve):
    left = asyncio.Event()

    async def script(caller):
        while True:
            await caller.request()
            await caller.send(CHUNKED + b"6\r\n[DONE]\r\n")
            await left.wait()
            await caller.send(b"4\r\njunk\r\n", LAST)

    server = await serve(script)
    for taken in ([], []):
        left.clear()
        with closing(await ask(client, server)) as answer:
            await answer.pour(lambda piece, taken=taken: taken.append(piece) or True, soon)
        assert (taken, answer.complete) == ([b"[DONE]"], False)
        left.set()
        await until(lambda: answer.complete)
        assert taken == [b"[DONE]"]
    assert len(server.callers) == 1


async def test_after_the_last_word_the_end_is_not_waited_for_long(client, serve, monkeypatch):
    monkeypatch.setattr(exchange, "GOODBYE", 0.1)
    closed = asyncio.Event()
    server = await serve(opened(CHUNKED + b"6\r\n[DONE]\r\n", closed))
    with closing(await ask(client, server)) as answer:
        await answer.pour(lambda piece: True, soon)
    start = soon(0)
    await asyncio.wait_for(closed.wait(), PATIENCE)
    assert soon(0) - start > 0.09
    assert not answer.complete


async def test_giving_up_an_answer_does_not_harm_the_next_one_on_its_connection(
    client, serve, monkeypatch
):
    monkeypatch.setattr(exchange, "GOODBYE", 0.05)
    given_up = asyncio.Event()

    async def script(caller):
        await caller.request()
        await caller.send(CHUNKED + b"6\r\n[DONE]\r\n")
        await caller.send(LAST)
        await caller.request()
        await caller.send(PLAIN[:-2])
        await given_up.wait()
        await caller.send(PLAIN[-2:])

    server = await serve(script)
    with closing(await ask(client, server)) as answer:
        await answer.pour(lambda piece: True, soon)
    asyncio.get_running_loop().call_later(0.1, given_up.set)
    await until(lambda: answer.complete)
    assert await fetch(client, server) == (200, b"hello")
    assert len(server.callers) == 1


async def test_while_a_feed_is_full_nothing_is_read(client, serve):
    size, blocked = 64 * MIB, asyncio.Event()
    tray, taken = Tray(), bytearray()

    async def script(caller):
        await caller.request()
        await caller.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // MIB):
            sending = asyncio.create_task(caller.send(bytes(MIB)))
            if not (await asyncio.wait((sending,), timeout=0.3))[0]:
                blocked.set()
            await sending

    def take(piece):
        taken.extend(piece)
        if len(taken) < 2 * MIB:
            tray.open.clear()
        return False

    with closing(await ask(client, await serve(script))) as answer:
        pouring = asyncio.create_task(answer.pour(take, soon, tray))
        await asyncio.wait_for(blocked.wait(), PATIENCE)
        held = len(taken)
        assert 0 < held < 2 * MIB
        while not pouring.done():
            tray.open.set()
            await asyncio.wait((pouring,), timeout=0.01)
        await pouring
    assert (len(taken), answer.complete) == (size, True)


async def test_leaving_while_a_feed_is_full_closes_the_connection_at_once(client, serve):
    tray, closed = Tray(), asyncio.Event()
    tray.open.clear()
    answer = await ask(client, await serve(opened(CHUNKED + HELLO, closed)))
    pouring = asyncio.create_task(answer.pour(lambda piece: tray.pushed.set(), soon, tray))
    await tray.pushed.wait()
    pouring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pouring
    answer.close()
    await asyncio.wait_for(closed.wait(), PATIENCE)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_head_that_is_late_is_a_stall_and_closes(client, serve, sent):
    closed = asyncio.Event()
    server = await serve(opened(sent, closed))
    with pytest.raises(UpstreamStall):
        await client.ask("GET", server.url, {}, b"", soon(0.1))
    await asyncio.wait_for(closed.wait(), PATIENCE)


async def test_a_body_that_is_late_is_a_stall(client, serve):
    closed, taken = asyncio.Event(), bytearray()
    with closing(await ask(client, await serve(opened(CHUNKED + HELLO, closed)))) as answer:
        deadline = soon(0.1)
        with pytest.raises(UpstreamStall):
            await answer.pour(taken.extend, lambda: deadline)
    assert (taken, soon(0) >= deadline) == (b"hello", True)
    await asyncio.wait_for(closed.wait(), PATIENCE)


async def test_a_deadline_may_move_with_what_comes(client, serve):
    async def script(caller):
        await caller.request()
        await caller.send(CHUNKED)
        for _ in range(8):
            await asyncio.sleep(0.2)
            await caller.send(HELLO)
        await caller.left()

    taken = bytearray()
    with closing(await ask(client, await serve(script))) as answer, pytest.raises(UpstreamStall):
        await answer.pour(taken.extend, lambda: answer.last + 1.0)
    assert taken == b"hello" * 8


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [ValueError("mine"), UpstreamFailed("mine")])
async def test_what_taking_raises_comes_out_and_closes(client, serve, error, late):
    going, closed, taken = asyncio.Event(), asyncio.Event(), []

    async def script(caller):
        await caller.request()
        await caller.send(CHUNKED)
        if late:
            await going.wait()
        await caller.send(b"1\r\na\r\n1\r\nb\r\n", b"1\r\nc\r\n")
        await caller.left()
        closed.set()

    def take(piece):
        taken.append(piece)
        raise error

    with closing(await ask(client, await serve(script))) as answer:
        asyncio.get_running_loop().call_soon(going.set)
        with pytest.raises(type(error), match="mine"):
            await answer.pour(take, soon)
    await asyncio.wait_for(closed.wait(), PATIENCE)
    assert taken == [b"a"]


@pytest.mark.parametrize("whole", [PLAIN, WHOLE["chunked"]])
async def test_a_body_that_is_too_large_is_invalid(client, serve, whole):
    server = await serve(answers(whole))
    with closing(await ask(client, server)) as answer:
        assert await client.read(answer, 5, soon()) == b"hello"
    with closing(await ask(client, server)) as answer, pytest.raises(UpstreamInvalid):
        await client.read(answer, 4, soon())


async def test_closing_the_client_closes_every_connection(client, serve):
    closed = asyncio.Event()
    kept, busy = await serve(answers(PLAIN)), await serve(opened(PLAIN[:-2], closed))
    await fetch(client, kept)
    with closing(await ask(client, busy)) as answer:
        await client.aclose()
        with pytest.raises(UpstreamTruncated):
            await answer.pour(lambda piece: False, soon)
    await asyncio.wait_for(closed.wait(), PATIENCE)
    await asyncio.wait_for(kept.callers[0].left(), PATIENCE)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The files of a key and of the certificate that it signed itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    key, signed = str(folder / "key.pem"), str(folder / "certificate.pem")
    command = [
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", key, "-out", signed,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return key, signed


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    return context


async def test_a_server_that_cannot_be_trusted_is_unreachable(client, serve, tls):
    server = await serve(answers(PLAIN), ssl=tls)
    with pytest.raises(UpstreamUnreachable):
        await fetch(client, server)
    assert server.requests == []


async def test_a_server_without_tls_is_unreachable_over_https(client, serve):
    server = await serve(answers(PLAIN))
    with pytest.raises(UpstreamUnreachable):
        await client.ask("GET", server.url.replace("http:", "https:"), {}, b"", soon())


@pytest.fixture
def trusted(certificate, monkeypatch):
    context = ssl.create_default_context(cafile=certificate[1])
    monkeypatch.setattr(http_client, "_tls", lambda: context)


@pytest.mark.usefixtures("trusted")
async def test_over_tls_all_is_the_same(client, serve, tls):
    server = await serve(answers(*[bytes([byte]) for byte in WHOLE["trailers"]]), ssl=tls)
    assert [await fetch(client, server) for _ in range(2)] == [(200, b"hello")] * 2
    assert len(server.callers) == 1


@pytest.mark.usefixtures("trusted")
async def test_over_tls_leaving_closes_the_connection_at_once(client, serve, tls):
    closed = asyncio.Event()
    answer = await ask(client, await serve(opened(CHUNKED + HELLO, closed), ssl=tls))
    answer.close()
    await asyncio.wait_for(closed.wait(), PATIENCE)
