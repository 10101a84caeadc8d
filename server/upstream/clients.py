"""Which upstream serves which model: the settings' tables, put into practice."""

import asyncio
import os
from collections.abc import Mapping
from functools import partial

from server.settings import Settings
from server.tables import ModelRoute
from server.upstream import Models, Route, Source, Takeover, Upstream, pulled
from server.upstream.anthropic import BASE_URL, KEY_VARIABLE, Anthropic
from server.upstream.caller import Server
from server.upstream.demo import demo
from server.upstream.http import Http
from server.upstream.openai import OpenAI
from server.upstream.push import Push


class Clients:
    """One client for each kind of model server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        stall, first_token = settings.upstream_stall, settings.first_token
        self._openai = OpenAI(stall, first_token)
        self._anthropic = Anthropic(stall, first_token)
        self._http = Http(stall, first_token)
        self._pushed = partial(Push, stall, first_token, settings.push_grace)

    def models(self, upstreams: Mapping[str, Source]) -> Models:
        """Return who serves what; `upstreams` are the embedding program's."""
        settings = self._settings
        routes = {"demo": Route(pulled(demo()))}
        routes |= {name: self._route(t) for name, t in settings.models.items()}
        routes |= {name: Route(pulled(source)) for name, source in upstreams.items()}
        default = settings.model or next(iter(upstreams), "")
        if not settings.upstream:
            return Models(routes, default, pushed=self._pushed)
        server = Server(settings.upstream, settings.api_key)
        listing = partial(self._openai.models, server)
        return Models(routes, default, self._openai.upstream(server), listing, self._pushed)

    def _route(self, table: ModelRoute) -> Route:
        return Route(self._upstream(table), table.model, Takeover(table.takeover))

    def _upstream(self, table: ModelRoute) -> Upstream:
        settings, named = self._settings, table.api_key_env
        key = os.environ.get(named) if named else None
        match table.upstream:
            case "demo":
                return pulled(demo())
            case "anthropic":
                # Never another vendor's key.
                key = key if named else os.environ.get(KEY_VARIABLE)
                return self._anthropic.upstream(Server(table.base_url or BASE_URL, key))
            case "http":
                return self._http.upstream(Server(table.base_url or "", key), table.method or "POST")
        if table.base_url:
            return self._openai.upstream(Server(table.base_url, key))
        return self._openai.upstream(Server(settings.upstream or "", key if named else settings.api_key))

    async def aclose(self) -> None:
        """Close every connection."""
        clients = (self._openai, self._anthropic, self._http)
        await asyncio.gather(*(client.aclose() for client in clients))
