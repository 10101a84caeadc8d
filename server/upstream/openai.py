"""Any OpenAI-compatible server's chat completions.

Nothing is retried once a token has come. An upstream's own words of failure are never passed on:
they may hold keys.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import orjson
from yarl import URL

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnreachable,
)
from server.events import FinalEvent
from server.upstream import Feed, Request, Upstream
from server.upstream.chunks import ChunkReader, whole_answer
from server.upstream.exchange import Answer
from server.upstream.http_answers import check_status
from server.upstream.http_client import HttpClient
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
        self._http = HttpClient(connect)

    def upstream(self, server: Server) -> Upstream:
        """Return the upstream that asks `server`."""
        return partial(self._stream, server)

    async def models(self, server: Server) -> list[str]:
        """Return the ids of the models that `server` lists; raise `UpstreamFailed` if it does not."""
        until = asyncio.get_running_loop().time() + LISTING
        with closing(await self._ask("GET", server, "models", b"", until)) as answer:
            listing = _listing(await self._http.read(answer, MAX_EVENT, until))
        if listing is None:
            raise UpstreamInvalid()
        return [listed.id for listed in listing.data]

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _stream(self, server: Server, request: Request, feed: Feed) -> FinalEvent:
        until = asyncio.get_running_loop().time() + self._first_token
        with closing(await self._answer(server, _body(request), until)) as answer:
            if answer.content_type == "application/json":
                events, done = whole_answer(await self._http.read(answer, MAX_EVENT, until))
                for event in events:
                    feed.push(event)
                return done
            reader = ChunkReader(feed.push)
            # Only an event ends the wait for the first token: bytes may be comments.
            await answer.pour(
                reader.feed, lambda: answer.last + self._stall if reader.begun else until, feed
            )
            return reader.finish()

    async def _answer(self, server: Server, body: bytes, until: float) -> Answer:
        budget = RETRY_BUDGET
        for attempt in itertools.count():
            try:
                answer = await self._ask("POST", server, "chat/completions", body, until)
            except (UpstreamRateLimited, UpstreamUnreachable) as error:
                wait = error.retry_after
                if wait is None:
                    wait = random.uniform(0.25, 0.75) * 2**attempt
                budget -= wait
                late = asyncio.get_running_loop().time() + wait > until
                if attempt == RETRIES or budget < 0 or late:
                    raise
            else:
                return _streaming(answer)
            await asyncio.sleep(wait)
        raise AssertionError  # pragma: no cover

    async def _ask(self, method: str, server: Server, path: str, body: bytes, until: float) -> Answer:
        headers = {"Content-Type": "application/json"}
        if server.api_key:
            headers["Authorization"] = f"Bearer {server.api_key}"
        try:
            answer = await self._http.ask(method, server.url(path), headers, body, until)
            with _closed_on_failure(answer):
                check_status(answer.status, answer.headers)
        except UpstreamFailed as error:
            what = f"HTTP {error.upstream_status}" if error.upstream_status else error.code
            log.warning("%s: %s", _name(server), what)
            raise
        return answer


def _name(server: Server) -> str:
    return str(URL(server.base_url).with_user(None))


@contextmanager
def _closed_on_failure(answer: Answer) -> Iterator[None]:
    try:
        yield
    except UpstreamFailed:
        answer.close()
        raise


def _streaming(answer: Answer) -> Answer:
    with _closed_on_failure(answer):
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise UpstreamInvalid("The model server compressed its answer, unasked.")
        if answer.content_type not in (*_STREAMS, "application/json"):
            raise UpstreamInvalid("The model server did not answer with an event stream.")
    return answer


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
    messages = request.messages
    if request.continued:
        messages = [*messages, {"role": "assistant", "content": request.continued}]
        parameters |= {"continue_final_message": True, "add_generation_prompt": False}
    body: dict[str, Any] = parameters | {
        "model": request.model,
        "messages": messages,
        "stream": True,
        "stream_options": (options if isinstance(options, dict) else {}) | {"include_usage": True},
    }
    return orjson.dumps(body)
