"""Which upstream serves which model: chosen by name, all other names go to the default upstream."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from server.errors import UnknownModel
from server.upstream import Request, Upstream


@dataclass(frozen=True, slots=True)
class Route:
    """An upstream, and the name by which it knows the model (None: the same)."""

    upstream: Upstream
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Models:
    """Routes by model name; `fallback` takes every name that they don't know."""

    routes: Mapping[str, Route]
    default: str
    fallback: Upstream | None = None

    @property
    def names(self) -> list[str]:
        """Return the names that may be asked for."""
        return sorted({*self.routes, self.default})

    def resolve(self, request: Request) -> tuple[Upstream, Request]:
        """Return the upstream for a request, and the request as it knows it; raise `UnknownModel`."""
        route = self.routes.get(request.model)
        if route is not None:
            return route.upstream, replace(request, model=route.model or request.model)
        if self.fallback is None:
            raise UnknownModel()
        return self.fallback, request
