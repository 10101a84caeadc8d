"""What browsers need to be told, and what pages of other origins may not do.

A page of this server's own host may do everything, one of another origin only what its browser lets it do
without asking and that changes nothing; those on the list may do everything, too (CORS).
"""

import ipaddress
import re

from aiohttp import web

from server.errors import ForeignPage
from server.transport.guard import Handler, upgrades

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Max-Age": "7200",
}
_SENT = (
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Producer-Seq, X-Conversation-Id, "
    "OpenAI-Organization, OpenAI-Project, X-Request-Id, traceparent, tracestate"
)
_STAINLESS = re.compile(r"(?<![^\s,])x-stainless-[a-z-]{1,40}(?![^\s,])")
"""What OpenAI's client says of itself: a dozen headers, more with each version."""
_EXPOSED = "Location, Retry-After, X-Session-Id, X-Request-Id"


class Pages:
    """The origins on the list, and the host names that a server that asks nobody's name is called by.

    `any_host`: by every name. Else a page could get at it by a name of its own for 127.0.0.1.
    """

    def __init__(self, allowed: tuple[str, ...], any_host: bool) -> None:
        self._allowed = frozenset(allowed)
        self._any_host = any_host
        self._hosts = {_host(origin) for origin in allowed}

    def is_allowed(self, origin: str | None) -> bool:
        """Say whether an origin is on the list."""
        return origin is not None and origin.lower() in self._allowed

    def is_foreign(self, request: web.Request) -> bool:
        """Say whether another site's page made a browser send this."""
        origin = request.headers.get("Origin")
        if origin is None:
            return request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        if self.is_allowed(origin):
            return False
        return _host(origin) != request.host.lower() or _lacks_tls(origin, request)

    def check(self, request: web.Request) -> None:
        """Refuse what changes anything, and every socket, when a foreign page asks for it."""
        if not (self._any_host or self._is_named(request.headers.get("Host"))):
            raise ForeignPage("This server does not go by that name; see allow_origin.")
        if _acts(request) and self.is_foreign(request):
            raise ForeignPage()

    def check_cookie(self, request: web.Request) -> None:
        """Refuse a cookie that a browser may have sent for somebody else's page.

        What does more than to look has to come with a browser's word that the page is ours.
        """
        said = "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
        if self.is_foreign(request) or (_acts(request) and not said):
            raise ForeignPage()

    def _is_named(self, host: str | None) -> bool:
        if host is None or host.lower() in self._hosts:
            return True
        name = host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host.lower()
        # Nobody on the internet has a name without a dot, such as `localhost`.
        if name and ("." not in name or name.endswith(".localhost")):
            return True
        try:
            return bool(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            return False

    def preflight(self, request: web.Request) -> web.Response | None:
        """Answer a browser that asks what a page may ask; None if it is nothing of the kind."""
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        if not self.is_allowed(request.headers.get("Origin")):
            raise ForeignPage()
        wanted = request.headers.get("Access-Control-Request-Headers", "").lower()
        sent = ", ".join((_SENT, *_STAINLESS.findall(wanted)))
        return web.Response(status=204, headers=_PREFLIGHT | {"Access-Control-Allow-Headers": sent})

    async def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Give every response the headers that browsers are to mind."""
        headers = response.headers
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if self._allowed:
            headers["Vary"] = ", ".join((*headers.getall("Vary", ()), "Origin"))
        origin = request.headers.get("Origin")
        if origin is not None and self.is_allowed(origin):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Access-Control-Expose-Headers"] = _EXPOSED


def _host(origin: str) -> str:
    """Return an origin's host and port, as browsers write them into `Host`, too."""
    return origin.lower().partition("://")[2]


def _lacks_tls(origin: str, request: web.Request) -> bool:
    """Say whether a page came without TLS from a host that has it, so perhaps from somebody on the way.

    Whoever says `https` in a proxy's stead shuts only himself out, so all are believed. `http` says
    little: there may be TLS in front of that proxy.
    """
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme).partition(",")[0].strip().lower()
    return scheme == "https" and not origin.lower().startswith("https:")


def _acts(request: web.Request) -> bool:
    """Say whether a request changes or starts anything, or opens a socket."""
    changes = request.method not in ("GET", "HEAD", "OPTIONS")
    return changes or upgrades(request) or request.path.endswith("/v1/stream")


PAGES = web.AppKey("pages", Pages)


@web.middleware
async def pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell pages apart: ours, those on the list, foreign ones."""
    known = request.app[PAGES]
    if (answer := known.preflight(request)) is not None:
        return answer
    known.check(request)
    return await handler(request)
