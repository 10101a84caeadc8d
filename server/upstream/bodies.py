"""A response of somebody else's client, relayed: another AI endpoint, a page, a file."""

import codecs
import inspect
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from email.message import Message
from typing import Any

import aiohttp

from server.errors import UpstreamFailed, UpstreamInvalid
from server.events import Bytes, Event
from server.upstream.chunks import ChunkReader
from server.upstream.http_answers import check_status


def body_of(given: Any) -> AsyncGenerator[Any, None] | None:
    """Return the body of aiohttp's or an httpx-like response, or None if it is neither.

    The items are events for `text/event-stream` (of OpenAI's chunks), texts for other text and
    for JSON, else bytes. A status of 300 or more raises `UpstreamFailed`.
    """
    if isinstance(given, aiohttp.ClientResponse):
        return _relayed(given, given.status, given.content.iter_any())
    if hasattr(given, "aiter_bytes") and hasattr(given, "headers"):
        return _relayed(given, given.status_code, given.aiter_bytes())
    return None


async def _relayed(response: Any, status: int, pieces: AsyncIterable[bytes]) -> AsyncGenerator[Any, None]:
    try:
        check_status(status, response.headers)
        async with aclosing(_read(response.headers.get("Content-Type"), pieces)) as items:
            async for item in items:
                yield item
    finally:
        if isinstance(response, aiohttp.ClientResponse):
            _hang_up(response)
        else:
            closed = response.aclose()
            if inspect.isawaitable(closed):
                await closed


def _hang_up(response: aiohttp.ClientResponse) -> None:
    # Aborted, not released: whoever stops reading wants the other side to stop, too, and TLS would
    # first wait for its goodbye.
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def _read(content_type: str | None, pieces: AsyncIterable[bytes]) -> AsyncGenerator[Any, None]:
    header = Message()
    header["Content-Type"] = content_type or "application/octet-stream"
    kind = header.get_content_type()
    if kind == "text/event-stream":
        return _chunks(pieces)
    if kind.startswith("text/") or kind.endswith("json"):
        return _texts(pieces, header.get_content_charset("utf-8"))
    return _bytes(pieces, content_type)


async def _chunks(pieces: AsyncIterable[bytes]) -> AsyncGenerator[Any, None]:
    events: list[Event] = []
    reader = ChunkReader(events.append)
    async for piece in pieces:
        failure, ended = None, False
        try:
            ended = reader.feed(piece)
        except UpstreamFailed as error:
            failure = error  # comes after what was before it
        for event in events:
            yield event
        events.clear()
        if failure is not None:
            raise failure
        if ended:
            break
    yield reader.finish()


async def _texts(pieces: AsyncIterable[bytes], charset: str) -> AsyncGenerator[str, None]:
    try:
        decoder = codecs.getincrementaldecoder(charset)()
        async for piece in pieces:
            if text := decoder.decode(piece):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text
    except (UnicodeDecodeError, LookupError):
        raise UpstreamInvalid("The upstream's text is not in the encoding that it names.") from None


async def _bytes(pieces: AsyncIterable[bytes], content_type: str | None) -> AsyncGenerator[Bytes, None]:
    async for piece in pieces:
        yield Bytes(piece, content_type)
        content_type = None
