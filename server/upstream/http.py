"""Any address of the settings that answers with a stream: events, lines of JSON, text or bytes.

Only the settings say where: a caller can choose no address, and a redirect is an error.
"""

from contextlib import closing
from functools import partial

import orjson

from server.events import FinalEvent
from server.upstream import Feed, Request, Upstream
from server.upstream.any_body import reader_of
from server.upstream.caller import Call, Caller, Server


class Http(Caller):
    """A client for all such addresses."""

    def upstream(self, server: Server, method: str = "POST") -> Upstream:
        """Return the upstream that asks `server`, whose `base_url` is the whole address."""
        return partial(self._stream, server, method)

    async def _stream(self, server: Server, method: str, request: Request, feed: Feed) -> FinalEvent:
        until = self._until()
        with closing(await self._answer(_call(server, method, request), until)) as answer:
            # A body that only ends with its connection may as well have broken off.
            whole = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers
            kind = answer.headers.get("Content-Type", "application/octet-stream")
            return await self._pour(answer, reader_of(kind, feed.push, whole), until, feed)


def _call(server: Server, method: str, request: Request) -> Call:
    headers = {"Authorization": f"Bearer {server.api_key}"} if server.api_key else {}
    if method == "GET":
        return Call(method, server.base_url, headers)
    body = dict(request.parameters) | {
        "model": request.model,
        "messages": request.messages,
        "stream": True,
    }
    headers["Content-Type"] = "application/json"
    return Call(method, server.base_url, headers, orjson.dumps(body))
