"""Connections that take nothing or are not there any more (C2, C3)."""

import asyncio
import base64
import contextlib
import socket
import time

import pytest
from aiohttp import web

from tests.chaos.reading import TRANSPORTS
from tests.clients import start, text_of
from tests.faults.looking import memory, viewers
from tests.faults.readers import Reader
from tests.processes import demo_text
from tests.waiting import HANG, until

pytestmark = pytest.mark.alone

NOTICED = 15.5
"""Seconds until a vanished client's viewer is freed; half a second to count the viewers."""
COST = 512 * 1024
"""Bytes of the server's memory that a client may cost that reads nothing."""
DEAF = 24
SEND_TIMEOUT = 1.5


async def test_half_open_viewers_are_freed_whether_they_stream_or_not(
    cable, make_process, make_reading, client, http
):
    node = await make_process(host="0.0.0.0", insecure=True)
    streams = {"busy": 20, "quiet": 0.001}  # tokens a second
    wanted, names = {}, {}
    for name, rate in streams.items():
        for transport in TRANSPORTS:
            sid = await start(http, node, rate=rate, tokens=5000)
            wanted[sid], names[sid] = transport, f"{name} {transport}"
    await make_reading(f"http://{cable.HERE}:{node.port}", wanted, *cable.prefix)
    await until(lambda: all(viewers(client, sid) == 1 for sid in wanted))
    cable.pull()
    pulled = time.monotonic()
    freed = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HANG):
            while len(freed) < len(wanted):
                for sid in wanted.keys() - freed.keys():
                    if viewers(client, sid) == 0:
                        freed[sid] = time.monotonic() - pulled
                await asyncio.sleep(0.05)
    took = {names[sid]: round(freed.get(sid, 99.0), 1) for sid in wanted}
    print(took)
    assert max(took.values()) < NOTICED, took
    assert min(took.values()) > 1.0, took


def _asking(transport, sid):
    path = f"/v1/sessions/{sid}/{'ws' if transport == 'ws' else 'events'}"
    lines = [f"GET {path} HTTP/1.1", "Host: a"]
    if transport == "ws":
        key = base64.b64encode(bytes(16)).decode()
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += [f"Sec-WebSocket-Key: {key}"]
    return "\r\n".join([*lines, "", ""]).encode()


def _deaf(port, transport, sid):
    """Ask for a session, and never read a byte of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(_asking(transport, sid))
    return client


async def _slabs(request):
    """Answer with 200 pieces of 16 KiB."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 16_384)
    for _ in range(200):
        await response.write(chunk)
    await response.write(b"data: [DONE]\n\n")
    return response


@pytest.fixture
async def slabs(aiohttp_server):
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _slabs)
    return (await aiohttp_server(app)).make_url("/v1")


@pytest.mark.parametrize(("transport", "size"), [("sse", "tokens"), ("ws", "tokens"), ("sse", "slabs")])
async def test_a_reader_that_never_reads_costs_little_and_is_sent_away(
    make_process, slabs, client, http, transport, size
):
    node = await make_process(send_timeout=SEND_TIMEOUT, upstream=slabs, model="m", linger=0)
    shape = {"tokens": {"model": "demo", "rate": 0, "tokens": 40_000}, "slabs": {}}
    sid = await start(http, node, **shape[size])
    # Once read, the log and its frames are in memory: what comes on top are the readers.
    whole = await Reader(sid, transport).read(http, lambda: node.url(""))
    await until(lambda: viewers(client, sid) == 0)
    live, gaps = await start(http, node, model="demo", prompt="l", rate=100, tokens=150), Gaps()
    reading = asyncio.create_task(Reader(live, transport, gaps.heard).read(http, lambda: node.url("")))
    await until(lambda: gaps.seconds)
    before = memory(node)
    with contextlib.ExitStack() as sockets:
        for _ in range(DEAF):
            sockets.enter_context(_deaf(node.port, transport, sid))
        await until(lambda: viewers(client, sid) == DEAF)
        joined, cost = time.monotonic(), (memory(node) - before) / DEAF
        # Others read the same log meanwhile, whole.
        again = await Reader(sid, transport).read(http, lambda: node.url(""))
        await until(lambda: viewers(client, sid) == 0)
        away = time.monotonic() - joined
    events = await reading
    print(f"{cost / 1024:.0f} KiB each, longest gap {max(gaps.seconds):.3f} s, away after {away:.1f} s")
    assert cost <= COST
    assert again == whole
    assert away < SEND_TIMEOUT + 1.5
    assert text_of(events) == await demo_text("l", 150)
    assert gaps.most < 0.25


class Gaps:
    """The seconds between one event and the next."""

    def __init__(self):
        self.seconds, self._at = [], None

    def heard(self, event):
        now = time.monotonic()
        if self._at is not None:
            self.seconds.append(now - self._at)
        self._at = now

    @property
    def most(self):
        return sorted(self.seconds)[len(self.seconds) * 99 // 100]


async def test_many_who_catch_up_from_different_places_leave_nothing_behind(make_process, http):
    node = await make_process(linger=0)
    sid = await start(http, node, rate=0, tokens=40_000)
    events = await Reader(sid).read(http, lambda: node.url(""))
    url, ids = node.url(f"/v1/sessions/{sid}/events"), [event["id"] for event in events]

    async def read(after):
        async with http.get(url, headers={"Last-Event-ID": ids[after]}) as response:
            return len(await response.read())

    await read(0)
    before = memory(node)
    sizes = await asyncio.gather(*(read(101 * place) for place in range(DEAF)))
    grown = memory(node) - before
    print(f"{sum(sizes) / 2**20:.0f} MiB read, {grown / 2**20:.1f} MiB grown")
    assert grown < sum(sizes) / 4
