"""Where tokens come from.

The seam: an upstream is awaited with a `Request` and a `Feed`. It pushes each event into the feed as it
comes, waits for room when the feed is full, and returns the final event. It raises `UpstreamFailed` for
what went wrong, and closes its connection when it is cancelled. Pushing, because a task switch a token
costs more than the token. Whatever is written as an async iterator becomes one by `pulled`.
Which upstream serves a model is a matter of names: `Models`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from server.errors import TokenwireError, UnknownModel, UpstreamFailed, UpstreamTruncated
from server.events import FINAL, Event, FinalEvent


@dataclass(frozen=True, slots=True)
class Request:
    """One generation to run: an OpenAI chat-completions body, read only.

    `messages` is a list of `{"role", "content"}`; `parameters` is everything else the caller sent
    (temperature, tools, …), to be passed on as it is. `continued` is the answer's text so far, when
    another producer of it died: the upstream goes on behind it. If `pushed`, the caller is the upstream.
    """

    model: str
    messages: list[dict[str, Any]]
    parameters: Mapping[str, Any]
    continued: str = ""
    pushed: bool = False

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


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a pushed body before it comes.

    `number` is its place among its producer's bodies, `last` says that its clean end is the session's.
    """

    content_type: str
    number: int | None = None
    last: bool = False


class Body(Protocol):
    """A pushed body under way; `stopped` resolves when no more of it is wanted: with why not, or None."""

    stopped: asyncio.Future[TokenwireError | None]

    def take(self, piece: bytes) -> None:
        """Push the events that a piece completes; raise `BadEvent` in the place of one that is none."""

    def end(self) -> None:
        """Learn that the body came to a clean end; raise `BadEvent` as `take` does."""

    def leave(self, lost: bool) -> None:
        """Learn that no more comes of it: it was `lost`, or all is well, or it was refused."""


@runtime_checkable
class Pushed(Protocol):
    """An upstream whose events come in from outside, in one body after the other."""

    @property
    def ended(self) -> bool:
        """Whether it has its final event."""

    def open(self, head: Head, feed: Feed) -> Body | None:
        """Return the body that may come now, or None for one that came before.

        Raise `SessionClosed`, `PushConflict`, or `UnsupportedMediaType`.
        """

    async def __call__(self, request: Request, feed: Feed) -> FinalEvent:
        """Wait for the final event."""


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
    """Routes by model name; `fallback` takes every other name, `listing` asks it for its own.

    `pushed` makes the upstream of a session whose caller is its upstream.
    """

    routes: Mapping[str, Route]
    default: str
    fallback: Upstream | None = None
    listing: Callable[[], Awaitable[list[str]]] | None = None
    pushed: Callable[[], Pushed] | None = None

    async def names(self) -> list[str]:
        """Return the names that may be asked for, as far as the fallback tells its own."""
        names = {*self.routes, self.default} - {""}
        if self.listing is not None:
            with suppress(UpstreamFailed):
                names.update(await self.listing())
        return sorted(names)

    def takeover(self, request: Request) -> Takeover:
        """Return what becomes of an answer whose producer died; only a model server can go on."""
        route = None if request.pushed else self.routes.get(request.model)
        return route.takeover if route else Takeover.ERROR

    def resolve(self, request: Request) -> tuple[Upstream, Request]:
        """Return the upstream for a request, and the request as it knows it; raise `UnknownModel`."""
        if request.pushed and self.pushed is not None:
            return self.pushed(), request
        route = self.routes.get(request.model)
        if route is not None:
            return route.upstream, replace(request, model=route.model or request.model)
        if self.fallback is None:
            raise UnknownModel()
        return self.fallback, request
