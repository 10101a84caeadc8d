"""Small real clients: each reads a session over one transport and keeps what it was sent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from server.session.node import Node
from server.transport.access import Access
from tests.waiting import HANG

Item = dict[str, Any]
"""An event or a notice; an event has its id under `id`, a notice none."""


@dataclass
class Server:
    """A running node."""

    port: int
    node: Node | None = field(default=None, repr=False)
    access: Access | None = field(default=None, repr=False)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


async def start(http: aiohttp.ClientSession, server: Server, **body: Any) -> str:
    """Start a session and return its id."""
    async with http.post(server.url("/v1/sessions"), json={"prompt": "x"} | body) as response:
        session = await response.json()
        assert response.status == 201, session
        return session["id"]


async def session(http: aiohttp.ClientSession, server: Server, sid: str) -> Item:
    """Return the session object."""
    async with http.get(server.url(f"/v1/sessions/{sid}")) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def becomes(
    http: aiohttp.ClientSession, server: Server, sid: str, condition: Callable[[Item], bool]
) -> Item:
    """Return the session object once it is so."""
    async with asyncio.timeout(HANG):
        while not condition(found := await session(http, server, sid)):
            await asyncio.sleep(0.02)
    return found


async def control(http: aiohttp.ClientSession, server: Server, sid: str, action: str) -> Item:
    """Pause, resume or abort a session over HTTP."""
    async with http.post(server.url(f"/v1/sessions/{sid}/{action}")) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def sse(
    http: aiohttp.ClientSession, server: Server, sid: str, after: str | None = None, query: str = ""
) -> AsyncIterator[Item]:
    """Read server-sent events from a cursor on."""
    headers = {"Last-Event-ID": after} if after else {}
    url = server.url(f"/v1/sessions/{sid}/events{query}")
    async with http.get(url, headers=headers) as response:
        if response.status == 204:
            return
        assert response.status == 200, await response.text()
        buffer = b""
        async for piece in response.content.iter_any():
            *blocks, buffer = (buffer + piece).split(b"\n\n")
            for block in blocks:
                if (item := _block(block)) is not None:
                    yield item


def _block(block: bytes) -> Item | None:
    lines = [line for line in block.split(b"\n") if line and not line.startswith(b":")]
    fields = dict(line.split(b": ", 1) for line in lines)
    if fields.get(b"data") in (None, b"[DONE]"):
        return None
    item = orjson.loads(fields[b"data"])
    if b"event" in fields:
        # A notice's own `id`, the session's, is not an event id.
        return {"type": fields[b"event"].decode(), "facts": item}
    return item | {"id": fields[b"id"].decode()}


async def ndjson(
    http: aiohttp.ClientSession, server: Server, sid: str, after: str | None = None
) -> AsyncIterator[Item]:
    """Read NDJSON from a cursor on, as a fetch reader would."""
    query = {"stream": "ndjson"} | ({"after": after} if after else {})
    async with http.get(server.url(f"/v1/sessions/{sid}/events"), params=query) as response:
        if response.status == 204:
            return
        assert response.status == 200, await response.text()
        async for line in response.content:
            yield _told(orjson.loads(line))


async def ws(
    http: aiohttp.ClientSession, server: Server, sid: str, after: str | None = None
) -> AsyncIterator[Item]:
    """Read a session's own socket from a cursor on."""
    query = {"after": after} if after else {}
    url = server.url(f"/v1/sessions/{sid}/ws")
    async with http.ws_connect(url, params=query) as socket:
        async for message in socket:
            item = orjson.loads(message.data)
            assert item.pop("session") == sid
            yield _told(item)


def _told(item: Item) -> Item:
    is_event = item["type"] not in ("session", "paused", "resumed", "reset", "moving", "ping")
    return item if is_event else {"type": item["type"], "facts": item}


class Socket:
    """A client of `/v1/ws` or of one session's socket: sends commands, keeps what it is sent."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.items: list[Item] = []
        self._refs = 0

    async def next(self, timeout: float = HANG) -> Item:
        message = await self.ws.receive(timeout)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise EOFError(self.ws.close_code)
        item = orjson.loads(message.data)
        self.items.append(item)
        return item

    async def until(self, kind: str) -> Item:
        """Return the first item of that kind, past or to come."""
        while not (found := [item for item in self.items if item["type"] == kind]):
            await self.next()
        return found[0]

    async def ask(self, kind: str, **fields: Any) -> Item:
        self._refs += 1
        await self.ws.send_str(orjson.dumps({"type": kind, "ref": self._refs} | fields).decode())
        while (item := await self.next()).get("ref") != self._refs or item["type"] != "reply":
            pass
        return item

    def events(self) -> list[Item]:
        return [item for item in self.items if "id" in item and item["type"] not in ("reply", "session")]


def is_event(item: Item) -> bool:
    return "facts" not in item


async def collect(items: AsyncIterator[Item], count: int | None = None) -> list[Item]:
    """Return the first `count` events, or all to the end."""
    events: list[Item] = []
    try:
        async for item in items:
            if is_event(item):
                events.append(item)
            if len(events) == count:
                break
    finally:
        await items.aclose()  # type: ignore[attr-defined]
    return events


def text_of(events: list[Item]) -> str:
    return "".join(e["content"] for e in events if e["type"] == "content")


def seqs(events: list[Item]) -> list[int]:
    return [int(e["id"].rpartition("-")[2]) for e in events]
