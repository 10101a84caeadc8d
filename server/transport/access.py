"""Who sent a request: read from what it carries, asked once for each request and each socket.

The caller then is `server.callers.CALLER`, which the node asks for by itself: a route has nothing to do
but to call the node.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from aiohttp import web

from server.callers import CALLER, NOBODY, OPEN, Caller, Follows
from server.errors import Unauthorized
from server.ops import tickets
from server.ops.auth import Auth
from server.ops.tickets import GRACE, LEEWAY
from server.session.ledger import Ledger
from server.settings import Settings
from server.transport.doors import Doors
from server.transport.guard import Handler, upgrades
from server.transport.pages import Pages

COOKIE = "tokenwire"


class Access:
    """What a node knows of its callers."""

    def __init__(
        self,
        auth: Auth,
        ledger: Ledger,
        secret: bytes,
        pages: Pages,
        settings: Settings,
    ) -> None:
        self.doors = Doors(auth.holds, settings.max_streams, GRACE / 3)
        self.secret = secret
        self.holds = auth.holds
        self._auth = auth
        self._ledger = ledger
        self._pages = pages
        self._max_requests = settings.max_requests

    async def caller(self, request: web.Request) -> Caller:
        """Return who sent a request; raise `Unauthorized`, `RateLimited` or `ForeignPage`."""
        if (ticket := _ticket_in(request)) is not None:
            caller = await self.by_ticket(ticket)
        elif not self._auth.asks:
            return OPEN
        else:
            caller = self._named(request)
        if caller.principal is not None:
            await self._ledger.request(caller.principal, self._max_requests)
        return caller

    def _named(self, request: web.Request) -> Caller:
        scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._auth.caller(credential.strip())
        if (cookie := request.cookies.get(COOKIE)) is not None:
            self._pages.check_cookie(request)
            return self._auth.caller(cookie)
        return NOBODY

    def by_credential(self, credential: str) -> Caller:
        """Return who shows an API key or a JWT; raise `Unauthorized`."""
        return self._auth.caller(credential)

    async def by_ticket(self, text: str) -> Caller:
        """Return who shows a ticket; raise `Unauthorized`."""
        ticket = tickets.verify(text, self.secret)
        if ticket is None or not self._auth.holds(ticket.caller):
            raise Unauthorized("The ticket is not valid.")
        if time.time() > ticket.by + LEEWAY and not await self._ledger.in_use(ticket.id):
            raise Unauthorized("The ticket has expired.")
        # Only who reads the session's stream with it may come back: not who was refused, nor who polls.
        return replace(ticket.caller, follows=Follows(partial(self._ledger.use, ticket.id, GRACE)))

    async def aclose(self) -> None:
        """Stop."""
        await self.doors.aclose()


ACCESS = web.AppKey("access", Access)
PUBLIC = web.AppKey("public", frozenset[Handler])
"""The handlers that nobody needs credentials for."""
LATER = web.AppKey("later", frozenset[Handler])
"""The handlers of sockets that may begin with their credentials."""


def _ticket_in(request: web.Request) -> str | None:
    """Return the ticket of a request that can carry it nowhere else: an EventSource's or a socket's."""
    if request.method != "GET":
        return None
    if (text := request.query.get("ticket")) is not None:
        return text
    for protocol in _words(request.headers.getall("Sec-WebSocket-Protocol", ())):
        if protocol.startswith("ticket."):
            return protocol.removeprefix("ticket.")
    return None


def _words(values: Iterable[str]) -> Iterable[str]:
    return (word.strip() for value in values for word in value.split(","))


@web.middleware
async def identity(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Know who asks; refuse whoever does not say so."""
    access, known = request.app[ACCESS], request.match_info.http_exception is None
    if not known or request.match_info.handler in request.app[PUBLIC]:
        return await handler(request)
    caller = await access.caller(request)
    if caller is NOBODY and not _may_say_later(request):
        raise Unauthorized()
    with access.doors.open(caller, request):
        CALLER.set(caller)
        return await handler(request)


def _may_say_later(request: web.Request) -> bool:
    return upgrades(request) and request.match_info.handler in request.app[LATER]
