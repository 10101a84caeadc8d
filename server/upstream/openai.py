"""Any OpenAI-compatible server's chat completions, through aiohttp's client.

Nothing is retried once a token has come. An upstream's own words of failure are never passed on:
they may hold keys.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamStall,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from server.events import Event
from server.upstream import Request, Upstream
from server.upstream.chunks import ChunkReader
from server.upstream.sse_parser import MAX_EVENT, SSEParser

log = logging.getLogger(__name__)

CONNECT = 5.0
RETRIES = 2
RETRY_BUDGET = 20.0
_AGAIN = frozenset({429, 502, 503, 529})


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask and with which key, which nothing ever prints."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)


class OpenAI:
    """A client for all such servers; `stall` and `first_token` are seconds of silence allowed."""

    def __init__(self, stall: float, first_token: float) -> None:
        self._stall = stall
        self._first_token = first_token
        self._http: aiohttp.ClientSession | None = None

    def upstream(self, server: Server) -> Upstream:
        """Return the upstream that asks `server`."""

        async def stream(request: Request) -> AsyncIterator[Event]:
            body = _body(request)
            for attempt in range(RETRIES + 1):
                try:
                    async with self._answer(server, body) as response:
                        async for event in self._events(response):
                            yield event
                    return
                except (UpstreamRateLimited, UpstreamUnreachable) as error:
                    wait = _pause(error, attempt)
                    if wait is None:
                        raise
                await asyncio.sleep(wait)

        return stream

    async def aclose(self) -> None:
        """Close every connection."""
        if self._http is not None:
            await self._http.close()

    def _session(self) -> aiohttp.ClientSession:
        # Made late: it belongs to the loop that runs.
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
                auto_decompress=False,
                trust_env=False,
            )
        return self._http

    @asynccontextmanager
    async def _answer(self, server: Server, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if server.api_key:
            headers["Authorization"] = f"Bearer {server.api_key}"
        url = f"{server.base_url.rstrip('/')}/chat/completions"
        try:
            async with asyncio.timeout(self._first_token):
                response = await self._session().post(
                    url, data=body, headers=headers, allow_redirects=False
                )
        except TimeoutError:
            raise UpstreamStall() from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamUnreachable() from None
        try:
            _check(response)
            yield response
        finally:
            # Closed, not released: whoever stops reading wants the model to stop, too.
            response.close()

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
        reader = ChunkReader()
        if response.content_type == "application/json":
            for event in reader.read(await self._whole(response)):
                yield event
            yield reader.done or _broken()
            return
        parser, patience = SSEParser(), self._first_token
        while chunk := await self._piece(response, patience):
            for message in parser.feed(chunk):
                if message.data == b"[DONE]":
                    yield reader.done or _broken()
                    return
                for event in reader.read(message.data):
                    patience = self._stall
                    yield event
        yield reader.done or _broken()

    async def _piece(self, response: aiohttp.ClientResponse, patience: float) -> bytes:
        try:
            async with asyncio.timeout(patience):
                return await response.content.readany()
        except TimeoutError:
            raise UpstreamStall() from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamTruncated() from None

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        body = b""
        while piece := await self._piece(response, self._first_token):
            body += piece
            if len(body) > MAX_EVENT:
                raise UpstreamInvalid("The model server sent an answer that is too large.")
        return body


def _body(request: Request) -> bytes:
    parameters = dict(request.parameters)
    if parameters.pop("n", 1) != 1:
        raise UpstreamRejected("`n` must be 1: a session is one answer.")
    options = parameters.get("stream_options")
    body: dict[str, Any] = parameters | {
        "model": request.model,
        "messages": request.messages,
        "stream": True,
        "stream_options": (options if isinstance(options, dict) else {}) | {"include_usage": True},
    }
    return orjson.dumps(body)


def _check(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status in _AGAIN:
        raise UpstreamRateLimited(upstream_status=status, retry_after=_retry_after(response))
    if status >= 500:
        raise UpstreamFailed(upstream_status=status)
    if status >= 300:
        raise UpstreamRejected(upstream_status=status)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise UpstreamInvalid("The model server compressed its answer, unasked.")
    if response.content_type not in ("text/event-stream", "application/json", "application/octet-stream"):
        raise UpstreamInvalid("The model server did not answer with an event stream.")


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _pause(error: UpstreamFailed, attempt: int) -> float | None:
    """Return how long to wait before asking again; None: give up."""
    wait = error.retry_after
    if wait is None:
        wait = random.uniform(0.25, 0.75) * 2**attempt
    return wait if attempt < RETRIES and wait <= RETRY_BUDGET else None


def _broken() -> Event:
    raise UpstreamTruncated()
