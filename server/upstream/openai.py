"""Any OpenAI-compatible server's chat completions."""

import asyncio
from contextlib import closing
from functools import partial
from typing import Any

import msgspec
import orjson

from server.errors import UpstreamInvalid, UpstreamRejected
from server.events import FinalEvent
from server.upstream import Feed, Request, Upstream
from server.upstream.caller import Call, Caller, Server
from server.upstream.chunks import ChunkReader, whole_answer
from server.upstream.sse_parser import MAX_EVENT

LISTING = 5.0
# Bytes without a type are taken at their word; a page of HTML is not an answer.
_KINDS = ("text/event-stream", "application/octet-stream", "application/json")


class _Listed(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    data: list[_Listed]


class OpenAI(Caller):
    """A client for all such servers."""

    def upstream(self, server: Server) -> Upstream:
        """Return the upstream that asks `server`."""
        return partial(self._stream, server)

    async def models(self, server: Server) -> list[str]:
        """Return the ids of the models that `server` lists; raise `UpstreamFailed` if it does not."""
        until = asyncio.get_running_loop().time() + LISTING
        with closing(await self._ask(_call("GET", server, "models"), until)) as answer:
            listing = _listing(await self._http.read(answer, MAX_EVENT, until))
        if listing is None:
            raise UpstreamInvalid()
        return [listed.id for listed in listing.data]

    async def _stream(self, server: Server, request: Request, feed: Feed) -> FinalEvent:
        until = self._until()
        call = _call("POST", server, "chat/completions", _body(request))
        with closing(await self._answer(call, until, _KINDS)) as answer:
            if answer.content_type == "application/json":
                events, done = whole_answer(await self._http.read(answer, MAX_EVENT, until))
                for event in events:
                    feed.push(event)
                return done
            return await self._pour(answer, ChunkReader(feed.push), until, feed)


def _call(method: str, server: Server, path: str, body: bytes = b"") -> Call:
    headers = {"Content-Type": "application/json"}
    if server.api_key:
        headers["Authorization"] = f"Bearer {server.api_key}"
    return Call(method, server.url(path), headers, body)


def _listing(body: bytes) -> _Listing | None:
    try:
        return msgspec.json.decode(body, type=_Listing)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
