"""The client of one WebSocket: who it says it is, how fast it talks, and when it has to go."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from server.callers import CALLER, NOBODY
from server.errors import InvalidRequest, RateLimited, TooLarge, Unauthorized
from server.ops.limits import Bucket
from server.transport.access import ACCESS
from server.transport.arrivals import counted
from server.transport.context import CONTEXT
from server.transport.doors import DOOR

INTRODUCTION = 10.0
"""Seconds in which a socket must say whose it is, if its request did not."""
FLOOD = 100
"""Commands over the limit that are answered before a socket is closed."""
FEW, SHORT = 20, 16 * 1024
"""Frames of a socket that has not said whose it is, and the characters of one."""


def _nobody(*told: object) -> None:
    """Be told, and do nothing."""


class Guest:
    """Belongs to one socket; `end` closes it with a code and a word."""

    def __init__(self, request: web.Request, end: Callable[[int, str], None]) -> None:
        self._access = request.app[ACCESS]
        self._count = request.app[CONTEXT].count
        self._request = request
        self._bucket = Bucket(request.app[CONTEXT].max_commands)
        self._patience = FLOOD
        self._unknown = 0
        self._end = end
        self._door = request[DOOR]
        self._door.leave = self._leave
        if self._door.caller is NOBODY:
            asyncio.get_running_loop().call_later(INTRODUCTION, self._leave)

    def frame(self, size: int) -> None:
        """Count a frame of so many characters; raise `TooLarge` or `Unauthorized`, the last words."""
        if self._door.caller is not NOBODY:
            return
        self._unknown += 1
        error = TooLarge() if size > SHORT else Unauthorized() if self._unknown > FEW else None
        if error is not None:
            self._end(error.close, error.code)
            raise error

    async def request(self) -> None:
        """Count a command that does what a request would; raise `RateLimited`."""
        counted(self._request)
        if (principal := self._door.caller.principal) is not None:
            await self._count(principal)

    def command(self) -> None:
        """Count a command; raise `RateLimited`."""
        try:
            self._bucket.take()
            self._patience = FLOOD
        except RateLimited as error:
            self._patience -= 1
            if self._patience < 0:
                self._end(error.close, error.code)
            raise

    def gone(self) -> None:
        """Let go of the socket: it, its request and that one's door know each other."""
        self._end, self._door.leave = _nobody, _nobody

    def _leave(self) -> None:
        if self._door.caller is NOBODY or not self._access.holds(self._door.caller):
            self._end(Unauthorized.close, Unauthorized.code)

    async def auth(self, message: dict[str, Any]) -> dict[str, Any]:
        """Take the socket for somebody who could not say so in its request."""
        counted(self._request)
        token, ticket = message.get("token"), message.get("ticket")
        if self._door.caller is not NOBODY:
            raise InvalidRequest("This socket is somebody's already.")
        if isinstance(ticket, str):
            caller = await self._access.by_ticket(ticket)
        elif isinstance(token, str):
            caller = self._access.by_credential(token)
        else:
            raise InvalidRequest("Give either `token` or `ticket`.")
        self._access.doors.hand_over(self._door, caller)
        CALLER.set(caller)
        return {}
