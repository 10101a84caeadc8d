"""Any OpenAI-compatible server's chat completions, through aiohttp's client.

Nothing is retried once a token has come. An upstream's own words of failure are never passed on:
they may hold keys.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import orjson
from yarl import URL

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
from server.upstream.chunks import ChunkReader, whole_answer
from server.upstream.http_answers import check_status, hang_up
from server.upstream.sse_parser import MAX_EVENT

log = logging.getLogger(__name__)

RETRIES = 2
RETRY_BUDGET = 20.0
LISTING = 5.0
# Bytes without a type are taken at their word; a page of HTML is not an answer.
_STREAMS = ("text/event-stream", "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask and with which key, which nothing ever prints."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)

    def url(self, path: str) -> str:
        """Return the address of one of its calls."""
        return f"{self.base_url.rstrip('/')}/{path}"


class _Listed(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    data: list[_Listed]


class OpenAI:
    """A client for all such servers; seconds for what it waits.

    `connect` is for the connection, `first_token` for the first token, retries and all, and
    `stall` for the silence after that.
    """

    def __init__(self, stall: float, first_token: float, connect: float = 5.0) -> None:
        self._stall = stall
        self._first_token = first_token
        self._connect = connect
        self._http: aiohttp.ClientSession | None = None

    def upstream(self, server: Server) -> Upstream:
        """Return the upstream that asks `server`."""
        return lambda request: self._stream(server, request)

    async def models(self, server: Server) -> list[str]:
        """Return the ids of the models that `server` lists; raise `UpstreamFailed` if it does not."""
        until = asyncio.get_running_loop().time() + LISTING
        response = await self._ask("GET", server, "models", None, until)
        try:
            listing = _listing(await _whole(response, until))
        finally:
            hang_up(response)
        if listing is None:
            raise UpstreamInvalid()
        return [listed.id for listed in listing.data]

    async def aclose(self) -> None:
        """Close every connection."""
        if self._http is not None:
            await self._http.close()

    async def _stream(self, server: Server, request: Request) -> AsyncIterator[Event]:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._first_token
        response = await self._answer(server, _body(request), until)
        try:
            if response.content_type == "application/json":
                for event in whole_answer(await _whole(response, until)):
                    yield event
                return
            reader, begun = ChunkReader(), False
            while not reader.ended:
                piece = await _piece(response, until)
                # All that one read brought, without a switch to another task in between.
                for event in reader.feed(piece) if piece else reader.finish():
                    begun = True
                    yield event
                until = loop.time() + self._stall if begun else until
        finally:
            hang_up(response)

    async def _answer(self, server: Server, body: bytes, until: float) -> aiohttp.ClientResponse:
        budget = RETRY_BUDGET
        for attempt in itertools.count():
            try:
                response = await self._ask("POST", server, "chat/completions", body, until)
            except (UpstreamRateLimited, UpstreamUnreachable) as error:
                wait = error.retry_after
                if wait is None:
                    wait = random.uniform(0.25, 0.75) * 2**attempt
                budget -= wait
                late = asyncio.get_running_loop().time() + wait > until
                if attempt == RETRIES or budget < 0 or late:
                    raise
            else:
                return _streaming(response)
            await asyncio.sleep(wait)
        raise AssertionError  # pragma: no cover

    async def _ask(
        self, method: str, server: Server, path: str, body: bytes | None, until: float
    ) -> aiohttp.ClientResponse:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if server.api_key:
            headers["Authorization"] = f"Bearer {server.api_key}"
        try:
            async with asyncio.timeout_at(until):
                response = await self._session().request(
                    method, server.url(path), data=body, headers=headers, allow_redirects=False
                )
        except (aiohttp.ClientError, OSError) as error:
            # Its class alone: a connection error's text is harmless, a response error's is not.
            log.warning("%s: %s", _name(server), type(error).__name__)
            raise _failure(error) from None
        try:
            check_status(response.status, response.headers)
        except UpstreamFailed:
            log.warning("%s: HTTP %d", _name(server), response.status)
            hang_up(response)
            raise
        return response

    def _session(self) -> aiohttp.ClientSession:
        # Made late: it belongs to the loop that runs.
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect),
                auto_decompress=False,
                trust_env=False,
            )
        return self._http


def _name(server: Server) -> str:
    return str(URL(server.base_url).with_user(None))


def _failure(error: aiohttp.ClientError | OSError) -> UpstreamFailed:
    if isinstance(error, aiohttp.ClientResponseError):
        return UpstreamInvalid()
    # The timeout of a connection is one of aiohttp's; any other is ours, for the first token.
    stalled = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError)
    return UpstreamStall() if stalled else UpstreamUnreachable()


async def _piece(response: aiohttp.ClientResponse, until: float) -> bytes:
    try:
        async with asyncio.timeout_at(until):
            return await response.content.readany()
    except TimeoutError:
        raise UpstreamStall() from None
    except (aiohttp.ClientError, OSError):
        raise UpstreamTruncated() from None


async def _whole(response: aiohttp.ClientResponse, until: float) -> bytes:
    body = b""
    while piece := await _piece(response, until):
        body += piece
        if len(body) > MAX_EVENT:
            raise UpstreamInvalid("The model server sent an answer that is too large.")
    return body


def _streaming(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    problem = None
    if response.headers.get("Content-Encoding", "identity") != "identity":
        problem = "The model server compressed its answer, unasked."
    if response.content_type not in (*_STREAMS, "application/json"):
        problem = "The model server did not answer with an event stream."
    if problem is not None:
        hang_up(response)
        raise UpstreamInvalid(problem)
    return response


def _listing(body: bytes) -> _Listing | None:
    try:
        return msgspec.json.decode(body, type=_Listing)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _body(request: Request) -> bytes:
    parameters = dict(request.parameters)
    if parameters.pop("n", None) not in (None, 1):
        raise UpstreamRejected("`n` must be 1: a session is one answer.")
    options = parameters.get("stream_options")
    body: dict[str, Any] = parameters | {
        "model": request.model,
        "messages": request.messages,
        "stream": True,
        "stream_options": (options if isinstance(options, dict) else {}) | {"include_usage": True},
    }
    return orjson.dumps(body)
