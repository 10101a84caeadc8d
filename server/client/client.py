"""A client of one server: starts sessions, reads them, steers them."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from server.client.caller import Caller
from server.client.reports import Report, log_report
from server.client.stream import Stream
from server.errors import TokenwireError
from server.events import Cursor

SILENCE = 35.0
"""Seconds; more than two of the server's signs of life apart."""
PATIENCE = 60.0


class Client:
    """A client of the server at `url`, which may have a path; `headers` go with every request.

    A connection that says nothing for `silence` seconds is lost; a server that cannot be reached for
    `patience` seconds raises `Unreachable`. `tell` is called with each `Report`.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        silence: float = SILENCE,
        patience: float = PATIENCE,
        tell: Callable[[Report], None] = log_report,
    ) -> None:
        self._caller = Caller(url, headers or {}, silence, patience, tell)

    async def start(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        options: Mapping[str, Any] | None = None,
        key: str | None = None,
        transport: str = "auto",
        merged: bool = False,
        **parameters: Any,
    ) -> Stream:
        """Start a session and return its stream.

        `prompt` is a text or a list of messages; `options` are the session's (`ttl`, `conversation` …);
        `parameters` (`model`, `temperature` …) go to the model. The same `key` starts a session once;
        without one, one is made up, so that a lost answer does not start it twice.
        """
        asked = {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
        body = parameters | asked | ({"session": dict(options)} if options else {})
        headers = {"Idempotency-Key": key or secrets.token_urlsafe(24)}
        answer = await self._caller.ask("POST", self._caller.base / "v1/sessions", body, headers)
        if not isinstance(sid := answer.get("id"), str):
            raise TokenwireError("the server's answer to a start names no session")
        return self.connect(sid, transport=transport, merged=merged)

    def connect(
        self,
        sid: str,
        *,
        after: Cursor | str | None = None,
        transport: str = "auto",
        merged: bool = False,
    ) -> Stream:
        """Return a stream of session `sid`; `after` is the id of the last event that you have.

        `transport` is `sse`, `ws`, or `auto` for whichever works. With `merged`, one event may stand for
        several of the log. Raise `BadCursor` if `after` is none.
        """
        cursor = Cursor.parse(after) if isinstance(after, str) else after
        return Stream(self._caller, sid, cursor, transport, merged)

    async def session(self, sid: str) -> dict[str, Any]:
        """Return the session object."""
        return await self._caller.ask("GET", self._caller.session(sid))

    async def pause(self, sid: str) -> dict[str, Any]:
        """Pause a session."""
        return await self._caller.control(sid, "pause")

    async def resume(self, sid: str) -> dict[str, Any]:
        """Resume a session."""
        return await self._caller.control(sid, "resume")

    async def abort(self, sid: str) -> dict[str, Any]:
        """Abort a session."""
        return await self._caller.control(sid, "abort")

    async def delete(self, sid: str) -> None:
        """Abort a session if it is live, and wipe its log."""
        await self._caller.ask("DELETE", self._caller.session(sid))

    async def aclose(self) -> None:
        """Close all connections; who reads over one, or waits for an answer, gets `Closed`."""
        await self._caller.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()
