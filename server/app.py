"""Puts the rooms together: one aiohttp application, to be run or to be mounted in another."""

import gzip
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import orjson
from aiohttp import web

import server.transport.ai_sdk
import server.transport.ai_sdk_socket
import server.transport.conversations
import server.transport.inspect
import server.transport.openai
import server.transport.push
import server.transport.raw
import server.transport.responses
import server.transport.tickets
import server.transport.ws  # noqa: F401 - their routes join api's
from server.errors import StoreUnavailable
from server.openapi import document
from server.ops.auth import Auth
from server.ops.files import for_clients
from server.ops.limits import Addresses
from server.session.codec import codec
from server.session.deployment import deployed
from server.session.directory import Directory
from server.session.doorbell import Doorbell
from server.session.hub import Hub
from server.session.inspection import Inspection
from server.session.ledger import Allowed, Ledger
from server.session.node import Node
from server.session.pace import Pace
from server.session.producer import Bounds
from server.session.producers import Rules
from server.session.scripts import load
from server.session.store import Store
from server.settings import Settings
from server.transport import api, guard, health, named, ws
from server.transport.access import ACCESS, LATER, PUBLIC, Access, identity
from server.transport.arrivals import arrivals
from server.transport.context import CONTEXT, Context
from server.transport.doorstep import ADDRESSES
from server.transport.heart import Heart
from server.transport.pages import PAGES, Pages, pages
from server.upstream import Source
from server.upstream.clients import Clients

log = logging.getLogger(__name__)

SETTINGS = web.AppKey("settings", Settings)
AUTH = web.AppKey("auth", Auth)
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types default dompurify"
)
_COMMENT = re.compile(rb"(?m)^ *(//.*|/\*\* .*\*/)$|(?<=[;{,)]) +// [^\"'`\n]*$")
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def create_app(settings: Settings, *, upstreams: Mapping[str, Source] | None = None) -> web.Application:
    """Return the application; `upstreams` adds models by name, each a `Source` as in `server.upstream`.

    `settings.redis` must be a URL: whoever runs the application starts the embedded server.
    Starting it raises `StoreUnavailable` if that Redis cannot be reached or would evict keys.
    """
    middlewares = [named.requests, guard.errors, arrivals, pages, identity]
    app = web.Application(middlewares=middlewares, client_max_size=settings.max_body)
    app[SETTINGS] = settings
    app[AUTH] = Auth(settings)
    app[ADDRESSES] = Addresses(
        settings.trust_proxy, settings.max_connections, settings.max_requests, for_clients()
    )
    app[PAGES] = Pages(settings.allow_origin, settings.insecure or app[AUTH].asks)
    app.on_response_prepare.append(app[PAGES].dress)
    app.cleanup_ctx.append(partial(_run_node, upstreams=upstreams or {}))
    app.on_shutdown.append(_drain)
    app.on_response_prepare.append(named.answers)
    app.add_routes(api.routes)
    shown = {name: partial(_page, *page) for name, page in _pages().items()}
    for name, page in shown.items():
        app.router.add_get(f"/{name}", page)
    app[LATER] = frozenset({ws.any_session})
    app[PUBLIC] = frozenset({health.healthz, health.readyz, *shown.values()})
    return app


async def _run_node(app: web.Application, upstreams: Mapping[str, Source]) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    assert settings.redis is not None, "a Redis URL is needed"
    deployment = await deployed(settings.redis)
    facts = await deployment.facts()
    if evicting := [f.policy for f in facts if f.policy not in ("", "noeviction")]:
        raise StoreUnavailable(
            f"Redis evicts keys (maxmemory-policy {evicting[0]}); tokenwire needs noeviction."
        )
    hot, calls = deployment.carrier(Pace), deployment.carrier()
    store = Store(calls, load(all(f.flags for f in facts)), codec(settings.log_keys))
    name = secrets.token_hex(6)
    heard: list[Callable[[str], None]] = []
    doorbell = Doorbell(deployment, partial(_ring, heard))
    directory = Directory(calls)
    hub = Hub(store, directory, calls, doorbell, name, settings.lease)
    heard.append(hub.rung)
    secret = settings.secret.encode() if settings.secret else await directory.secret()
    clients, ledger = Clients(settings), Ledger(calls, rules(settings).allowed)
    models = clients.models(upstreams)
    node = Node(name, models, store, directory, hub, hot, rules(settings), secret, ledger)
    heart = Heart(settings.heartbeat)
    inspection = Inspection(name, node.roll, node.levels, calls, store.codec, doorbell)
    heard.append(inspection.rung)
    bounds = settings.redis_grace, settings.max_frame, settings.max_commands, settings.send_timeout
    count = partial(ledger.request, most=settings.max_requests)
    app[CONTEXT] = Context(node, heart, *bounds, count, inspection)
    access = app[ACCESS] = Access(app[AUTH], ledger, secret, app[PAGES], settings)
    yield
    await access.aclose()
    await heart.aclose()
    await inspection.aclose()
    await node.aclose()
    await clients.aclose()
    await doorbell.aclose()
    await hot.aclose()
    await calls.aclose()
    await deployment.aclose()


def _ring(heard: Iterable[Callable[[str], None]], channel: str) -> None:
    for hear in heard:
        hear(channel)


async def _drain(app: web.Application) -> None:
    await app[CONTEXT].node.drain(app[SETTINGS].drain)


def rules(settings: Settings) -> Rules:
    """Return what the settings say about sessions."""
    return Rules(
        lease=settings.lease,
        linger=settings.linger,
        ttl=settings.ttl,
        hold_limit=settings.hold_limit,
        pause_ttl=settings.pause_ttl,
        bounds=Bounds(
            settings.max_tokens, settings.max_bytes, settings.max_seconds, settings.buffer_limit
        ),
        send_timeout=settings.send_timeout,
        grace=settings.redis_grace,
        allowed=Allowed(
            settings.max_running, settings.max_paused, settings.max_stored, settings.max_viewers
        ),
    )


def _pages() -> dict[str, tuple[bytes, bytes, str]]:
    # Packaged beside the modules; in a source checkout the folder is one floor up.
    here = Path(__file__).parent
    folder = next(f for f in (here / "static", here.parent / "static") if f.is_dir())
    files = [f for f in folder.rglob("*") if f.suffix in _TYPES]
    bodies = {f.relative_to(folder).as_posix(): (_served(f), _TYPES[f.suffix]) for f in files}
    bodies["openapi.json"] = (orjson.dumps(document()), "application/json")
    pages = {name: (body, gzip.compress(body), kind) for name, (body, kind) in bodies.items()}
    names = {"index.html": "", "inspect.html": "inspect"}
    return {names.get(name, name): page for name, page in pages.items()}


def _served(file: Path) -> bytes:
    # Comments are for those who read the source; lines left empty keep the others' numbers.
    body = file.read_bytes()
    return _COMMENT.sub(b"", body) if file.suffix == ".js" else body


async def _page(body: bytes, packed: bytes, content_type: str, request: web.Request) -> web.Response:
    headers = {"Content-Security-Policy": _CSP, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = packed, "gzip"
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)
