"""Puts the rooms together: one aiohttp application, to be run or to be mounted in another."""

import logging
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

from aiohttp import web

import server.transport.health
import server.transport.ws  # noqa: F401 - their routes join api's
from server.errors import StoreUnavailable
from server.session.deployment import deployed
from server.session.directory import Directory
from server.session.doorbell import Doorbell
from server.session.hub import Hub
from server.session.node import Node
from server.session.pace import Pace
from server.session.producer import Bounds
from server.session.producers import Rules
from server.session.scripts import load
from server.session.store import Store
from server.settings import Settings
from server.transport import api, guard
from server.transport.context import CONTEXT, Context
from server.transport.heart import Heart
from server.upstream import Models, Route, Source, pulled
from server.upstream.demo import demo
from server.upstream.openai import OpenAI, Server

log = logging.getLogger(__name__)

SETTINGS = web.AppKey("settings", Settings)
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def create_app(settings: Settings, *, upstreams: Mapping[str, Source] | None = None) -> web.Application:
    """Return the application; `upstreams` adds models by name, each a `Source` as in `server.upstream`.

    `settings.redis` must be a URL: whoever runs the application starts the embedded server.
    Starting it raises `StoreUnavailable` if that Redis cannot be reached or would evict keys.
    """
    app = web.Application(middlewares=[guard.errors, guard.origins], client_max_size=settings.max_body)
    app[SETTINGS] = settings
    app.cleanup_ctx.append(partial(_run_node, upstreams=upstreams or {}))
    app.on_shutdown.append(_drain)
    app.add_routes(api.routes)
    for name, page in _pages().items():
        app.router.add_get(f"/{name}", partial(_page, *page))
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
    store = Store(calls, load(all(f.flags for f in facts)))
    name = secrets.token_hex(6)
    rung: list[Hub] = []
    doorbell = Doorbell(deployment, lambda channel: rung[0].rung(channel))
    directory = Directory(calls)
    hub = Hub(store, directory, calls, doorbell, name, settings.lease)
    rung.append(hub)
    secret = settings.secret.encode() if settings.secret else await directory.secret()
    client = OpenAI(settings.upstream_stall, settings.first_token)
    models = _models(settings, client, upstreams)
    node = Node(name, models, store, directory, hub, hot, rules(settings), secret)
    heart = Heart(settings.heartbeat)
    origins = tuple(settings.allow_origin)
    app[CONTEXT] = Context(node, heart, settings.redis_grace, settings.max_frame, origins)
    yield
    await heart.aclose()
    await node.aclose()
    await client.aclose()
    await doorbell.aclose()
    await hot.aclose()
    await calls.aclose()
    await deployment.aclose()


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
    )


def _models(settings: Settings, client: OpenAI, upstreams: Mapping[str, Source]) -> Models:
    routes = {"demo": Route(pulled(demo()))}
    for name, route in settings.models.items():
        if route.upstream == "demo":
            routes[name] = Route(pulled(demo()))
            continue
        key = os.environ.get(route.api_key_env) if route.api_key_env else settings.api_key
        server = Server(route.base_url or settings.upstream or "", key)
        routes[name] = Route(client.upstream(server), route.model)
    routes |= {name: Route(pulled(source)) for name, source in upstreams.items()}
    fallback = listing = None
    if settings.upstream:
        server = Server(settings.upstream, settings.api_key)
        fallback, listing = client.upstream(server), partial(client.models, server)
    default = settings.model or next(iter(upstreams), "")
    return Models(routes, default, fallback, listing)


def _pages() -> dict[str, tuple[bytes, str]]:
    # Packaged beside the modules; in a source checkout the folder is one floor up.
    here = Path(__file__).parent
    folder = next(f for f in (here / "static", here.parent / "static") if f.is_dir())
    files = [f for f in folder.rglob("*") if f.suffix in _TYPES]
    pages = {f.relative_to(folder).as_posix(): (f.read_bytes(), _TYPES[f.suffix]) for f in files}
    return {("" if name == "index.html" else name): page for name, page in pages.items()}


async def _page(body: bytes, content_type: str, request: web.Request) -> web.Response:
    headers = {
        "Content-Security-Policy": _CSP,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)
