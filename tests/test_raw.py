"""Bodies without events: raw is what the upstream sent, to the byte, under its type."""

import asyncio
import hashlib
import random

import aiohttp
import pytest

from server.errors import UpstreamStall
from server.events import Bytes, Content, Done, Reasoning
from server.wire.raw import Raw, content_type
from tests import sources
from tests.clients import start
from tests.test_wire import LOG, SID

SOUND = random.Random(7).randbytes(400_000)


async def sound(request):
    """A file of every byte there is, in pieces of odd lengths."""
    yield Reasoning("what they want to hear")
    yield Bytes(SOUND[:1], "audio/mpeg")
    for at in range(1, len(SOUND), 7919):
        yield Bytes(SOUND[at : at + 7919])
        await asyncio.sleep(0)
    yield Done()


async def page(request):
    yield Bytes(b"<script>", request.prompt)
    yield Done()


async def fails(request):
    yield Bytes(b"some", "audio/mpeg")
    raise UpstreamStall()


@pytest.fixture
async def pair(make_node):
    upstreams = {"sound": sound, "page": page, "fails": fails, "paced": sources.paced}
    return [await make_node(upstreams) for _ in range(2)]


def test_raw_is_bytes_and_text_and_nothing_else():
    assert Raw().encoding(SID).slice(LOG, 0, 3) == b"Hello\n\nevent: done\ndata: {}"
    assert Raw().encoding(SID).notice("paused", {"gate": 1}) == b""


@pytest.mark.parametrize(
    ("events", "type"),
    [
        ([], "text/plain; charset=utf-8"),
        ([Content("a"), Bytes(b"x", "image/png")], "text/plain; charset=utf-8"),
        ([Reasoning("a"), Bytes(b"x", "image/png")], "image/png"),
        ([Bytes(b"x", 'video/mp4; codecs="avc1"')], 'video/mp4; codecs="avc1"'),
        ([Bytes(b"x")], "application/octet-stream"),
        ([Bytes(b"x", "image/png\r\nSet-Cookie: a=b")], "application/octet-stream"),
        ([Bytes(b"x", "nonsense")], "application/octet-stream"),
    ],
)
def test_the_type_is_the_upstreams_if_it_is_one(events, type):
    assert content_type(events) == type


@pytest.mark.parametrize("where", [0, 1])
async def test_a_file_arrives_as_it_was_live_and_afterwards(pair, http, where):
    sid = await start(http, pair[0], model="sound")
    for _ in range(2):
        async with http.get(pair[where].url(f"/v1/sessions/{sid}/raw")) as response:
            body = await response.read()
            assert response.headers["Content-Type"] == "audio/mpeg"
        assert hashlib.sha256(body).digest() == hashlib.sha256(SOUND).digest()


async def test_text_is_a_body_too(pair, http):
    sid = await start(http, pair[0], model="paced", prompt="t", tokens=30)
    async with http.get(pair[1].url(f"/v1/sessions/{sid}/raw")) as response:
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert await response.text() == sources.text("t", 30)


async def test_a_page_of_an_upstream_is_nobodys(pair, http):
    sid = await start(http, pair[0], model="page", prompt="text/html")
    async with http.get(pair[1].url(f"/v1/sessions/{sid}/raw")) as response:
        assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert await response.read() == b"<script>"


async def test_a_body_that_failed_breaks_off(pair, http):
    sid = await start(http, pair[0], model="fails")
    async with http.get(pair[1].url(f"/v1/sessions/{sid}/raw")) as response:
        assert response.headers["Content-Type"] == "audio/mpeg"
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_the_headers_wait_for_what_is_coming(make_node, http):
    source = sources.Stepped()
    node = await make_node({"stepped": source})
    sid = await start(http, node)
    asking = asyncio.create_task(http.get(node.url(f"/v1/sessions/{sid}/raw")))
    while not (await _viewers(http, node, sid)):
        await asyncio.sleep(0.01)
    assert not asking.done()
    source.step("a")
    async with await asking as response:
        assert await response.content.readany() == b"a"
        source.finish()
        assert await response.read() == b""


async def _viewers(http, node, sid):
    async with http.get(node.url(f"/v1/sessions/{sid}")) as response:
        return (await response.json())["viewers"]


async def test_an_event_source_that_drops_before_the_first_token_starts_no_second_one(make_node, http):
    source = sources.Stepped()
    nodes = [await make_node({"stepped": source}) for _ in range(2)]
    async with http.get(nodes[0].url("/v1/stream?prompt=x")) as response:
        sid = response.headers["X-Session-Id"]
        head = await response.content.readuntil(b"\n\n")
    (id,) = [line[4:].decode() for line in head.split(b"\n") if line.startswith(b"id: ")]
    assert id.partition(".")[0] == sid
    source.step("a")
    source.finish()
    headers = {"Last-Event-ID": id}
    async with http.get(nodes[1].url("/v1/stream?prompt=x"), headers=headers) as response:
        assert response.headers["X-Session-Id"] == sid
        assert '"content":"a"' in await response.text()
    async with http.get(nodes[0].url("/v1/sessions")) as response:
        assert [session["id"] for session in (await response.json())["sessions"]] == [sid]
