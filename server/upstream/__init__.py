"""Where tokens come from.

The seam: an upstream is awaited with a `Request` and a `Feed`. It pushes each event into the feed as it
comes, waits for room when the feed is full, and returns the final event. It raises `UpstreamFailed` for
what went wrong, and closes its connection when it is cancelled. Pushing, because a task switch a token
costs more than the token. Whatever is written as an async iterator becomes one by `pulled`.
Which upstream serves a model is a matter of names: `Models`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from server.errors import UnknownModel, UpstreamFailed, UpstreamTruncated
from server.events import FINAL, Event, FinalEvent


@dataclass(frozen=True, slots=True)
class Request:
    """One generation to run: an OpenAI chat-completions body, read only.

    `messages` is a list of `{"role", "content"}`; `parameters` is everything else the caller sent
    (temperature, tools, …), to be passed on as it is. `continued` is the answer's text so far, when
    another producer of it died: the upstream goes on behind it.
    """

    model: str
    messages: list[dict[str, Any]]
    parameters: Mapping[str, Any]
    continued: str = ""

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


class Feed(Protocol):
    """Where an upstream's events go."""

    def push(self, event: Event) -> None:
        """Take the next event; raise what ends the session from within, a limit for one."""

    @property
    def full(self) -> bool:
        """Whether the upstream should not be read on for now."""

    async def room(self) -> None:
        """Wait until the feed is not full."""


Upstream = Callable[[Request, Feed], Awaitable[FinalEvent]]

Source = Callable[[Request], AsyncIterator[Event]]
"""Yields events, the last of them final; one that ends without is taken as broken off."""


def pulled(source: Source) -> Upstream:
    """Return the upstream for a source."""

    async def upstream(request: Request, feed: Feed) -> FinalEvent:
        async with aclosing(source(request)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, FINAL):
                    return event
                feed.push(event)
                if feed.full:
                    await feed.room()
        raise UpstreamTruncated()

    return upstream


class Takeover(StrEnum):
    """What becomes of an answer whose producer died: its end, the rest of it, or another one."""

    ERROR = "error"
    CONTINUE = "continue"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Route:
    """An upstream, and the name by which it knows the model (None: the same)."""

    upstream: Upstream
    model: str | None = None
    takeover: Takeover = Takeover.ERROR


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

    def takeover(self, model: str) -> Takeover:
        """Return what becomes of a model's answers whose producer died."""
        route = self.routes.get(model)
        return route.takeover if route else Takeover.ERROR

    def resolve(self, request: Request) -> tuple[Upstream, Request]:
        """Return the upstream for a request, and the request as it knows it; raise `UnknownModel`."""
        route = self.routes.get(request.model)
        if route is not None:
            return route.upstream, replace(request, model=route.model or request.model)
        if self.fallback is None:
            raise UnknownModel()
        return self.fallback, request
