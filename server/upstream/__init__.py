"""Where tokens come from.

The seam: an upstream is a callable that takes a `Request` and returns an async iterator of events.
The last event it yields is final (`Done`, `Error` or `Aborted`); one that ends without is taken as
broken off. It raises `UpstreamFailed` for what went wrong, and closes its connection when it is
closed (`aclose`) or cancelled. Which upstream serves a model is a matter of names: `Models`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from server.errors import UnknownModel, UpstreamFailed
from server.events import Event


@dataclass(frozen=True, slots=True)
class Request:
    """One generation to run: an OpenAI chat-completions body, read only.

    `messages` is a list of `{"role", "content"}`; `parameters` is everything else the caller sent
    (temperature, tools, …), to be passed on as it is.
    """

    model: str
    messages: list[dict[str, Any]]
    parameters: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """Return the text of the last user message, or an empty string."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return _text(message.get("content"))
        return ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(
        part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)
    )


Upstream = Callable[[Request], AsyncIterator[Event]]


@dataclass(frozen=True, slots=True)
class Route:
    """An upstream, and the name by which it knows the model (None: the same)."""

    upstream: Upstream
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Models:
    """Routes by model name; `fallback` takes every other name, `listing` asks it for its own."""

    routes: Mapping[str, Route]
    default: str
    fallback: Upstream | None = None
    listing: Callable[[], Awaitable[list[str]]] | None = None

    async def names(self) -> list[str]:
        """Return the names that may be asked for, as far as the fallback tells its own."""
        names = {*self.routes, self.default} - {""}
        if self.listing is not None:
            with suppress(UpstreamFailed):
                names.update(await self.listing())
        return sorted(names)

    def resolve(self, request: Request) -> tuple[Upstream, Request]:
        """Return the upstream for a request, and the request as it knows it; raise `UnknownModel`."""
        route = self.routes.get(request.model)
        if route is not None:
            return route.upstream, replace(request, model=route.model or request.model)
        if self.fallback is None:
            raise UnknownModel()
        return self.fallback, request
