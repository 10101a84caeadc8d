"""Anthropic's Messages, streamed."""

from contextlib import closing
from functools import partial

from server.events import FinalEvent
from server.upstream import Feed, Request, Upstream
from server.upstream.caller import Call, Caller, Server
from server.upstream.message_events import MessageStream
from server.upstream.message_request import body_of
from server.upstream.sse_parser import MAX_EVENT

BASE_URL = "https://api.anthropic.com"
KEY_VARIABLE = "ANTHROPIC_API_KEY"
VERSION = "2023-06-01"
_KINDS = ("text/event-stream", "application/octet-stream", "application/json")


class Anthropic(Caller):
    """A client for that server, and for those that speak as it does."""

    def upstream(self, server: Server) -> Upstream:
        """Return the upstream that asks `server`; its `base_url` is without `/v1`."""
        return partial(self._stream, server)

    async def _stream(self, server: Server, request: Request, feed: Feed) -> FinalEvent:
        until, stream = self._until(), MessageStream(feed.push)
        with closing(await self._answer(_call(server, request), until, _KINDS)) as answer:
            if answer.content_type == "application/json":
                stream.take_whole(await self._http.read(answer, MAX_EVENT, until))
                return stream.finish()
            return await self._pour(answer, stream, until, feed)


def _call(server: Server, request: Request) -> Call:
    headers = {"Content-Type": "application/json", "anthropic-version": VERSION}
    if server.api_key:
        headers["x-api-key"] = server.api_key
    return Call("POST", server.url("v1/messages"), headers, body_of(request))
