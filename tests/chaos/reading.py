"""Three ways to read a session over the wire, as bare as they come.

Items are `{"id", "line"}` for events (the line without its id, its keys in order, so that the three can
be compared), `{"type", "facts"}` for notices.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

Item = dict[str, Any]
NOTICES = ("session", "paused", "resumed", "reset", "moving")
FINALS = ("done", "aborted", "error")


class Gone(Exception):
    """There is no such session any more, and the client was told so."""


BROKEN = (aiohttp.ClientError, OSError, TimeoutError, ValueError, ConnectionError)


def canonical(event: dict[str, Any]) -> str:
    """Return an event as text that is the same however it travelled."""
    return json.dumps(event, sort_keys=True, ensure_ascii=False)


def is_final(line: str) -> bool:
    """Say whether an event ends a session."""
    return json.loads(line)["type"] in FINALS


def item_of(message: dict[str, Any]) -> Item | None:
    if message["type"] in NOTICES:
        return {"type": message["type"], "facts": message}
    if message["type"] in ("ping", "reply", "pong"):
        return None
    return {"id": message.pop("id"), "line": canonical(message)}


def _check(status: int) -> None:
    if status in (404, 410):
        raise Gone(status)
    if status != 200:
        raise ConnectionError(status)


async def sse(http: aiohttp.ClientSession, base: str, sid: str, after: str | None) -> AsyncIterator[Item]:
    """Read server-sent events."""
    headers = {"Last-Event-ID": after} if after else {}
    async with http.get(f"{base}/v1/sessions/{sid}/events", headers=headers) as response:
        _check(response.status)
        buffer = b""
        async for piece in response.content.iter_any():
            *blocks, buffer = (buffer + piece).split(b"\n\n")
            for block in blocks:
                if (item := _block(block.decode())) is not None:
                    yield item


def _block(block: str) -> Item | None:
    lines = [line for line in block.split("\n") if line and not line.startswith(":")]
    fields = dict(line.split(": ", 1) for line in lines)
    if fields.get("data") in (None, "[DONE]"):
        return None
    data = json.loads(fields["data"])
    if "event" in fields:
        return {"type": fields["event"], "facts": data}
    return {"id": fields["id"], "line": canonical(data)}


async def ndjson(
    http: aiohttp.ClientSession, base: str, sid: str, after: str | None
) -> AsyncIterator[Item]:
    """Read one JSON object a line."""
    query = {"stream": "ndjson"} | ({"after": after} if after else {})
    async with http.get(f"{base}/v1/sessions/{sid}/events", params=query) as response:
        _check(response.status)
        async for line in response.content:
            if not line.endswith(b"\n"):
                return
            if (item := item_of(json.loads(line))) is not None:
                yield item


async def ws(http: aiohttp.ClientSession, base: str, sid: str, after: str | None) -> AsyncIterator[Item]:
    """Read a session's own socket."""
    query = {"after": after} if after else {}
    try:
        async with http.ws_connect(f"{base}/v1/sessions/{sid}/ws", params=query) as socket:
            async for message in socket:
                body = json.loads(message.data)
                assert body.pop("session") == sid
                if (item := item_of(body)) is not None:
                    yield item
            if socket.close_code in (4404, 4410):
                raise Gone(socket.close_code)
    except aiohttp.WSServerHandshakeError as error:
        _check(error.status)


TRANSPORTS: dict[str, Callable[..., AsyncIterator[Item]]] = {"sse": sse, "ndjson": ndjson, "ws": ws}
