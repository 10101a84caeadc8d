"""Upstreams for tests: real async iterables, scripted by the request's parameters."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from server.events import Content, Done, Event
from server.upstream import Request, Source
from server.upstream.demo import demo


def token(sid: str, place: int) -> str:
    """A token that names its session and its place, with characters that break naive framing."""
    return f"{sid}:{place}\n\r\u2028“{place % 7}”\n\nevent: done\ndata: {{}} "


def text(name: str, tokens: int) -> str:
    return "".join(token(name, place) for place in range(tokens))


async def paced(request: Request) -> AsyncIterator[Event]:
    """`tokens` tokens at `rate` a second by the clock of the whole stream, named after the prompt."""
    loop, rate = asyncio.get_running_loop(), float(request.parameters.get("rate", 0))
    start = loop.time()
    for place in range(int(request.parameters.get("tokens", 20))):
        if rate:
            await asyncio.sleep(max(0.0, start + place / rate - loop.time()))
        elif place % 50 == 49:
            await asyncio.sleep(0)
        yield Content(token(request.prompt, place))
    yield Done(usage={"completion_tokens": place + 1})


LONG = 100_000
"""Tokens that no test waits for."""


def lasting(over: asyncio.Event) -> Source:
    """The demo, whose answers last until they are `over` if they are not asked for fewer tokens."""
    speak = demo()

    async def stream(request: Request) -> AsyncIterator[Event]:
        asked = replace(request, parameters={"tokens": LONG, **request.parameters})
        async with aclosing(speak(asked)) as events:
            async for event in events:
                yield event
                if over.is_set() and asked.parameters["tokens"] == LONG:
                    yield Done()
                    return

    return stream


class Stepped:
    """An upstream that gives one token for each `step()`, ends at `finish()`, and knows its end."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[str | None] = asyncio.Queue()
        self.given = 0
        self.closed = asyncio.Event()

    def step(self, *texts: str) -> None:
        for piece in texts:
            self.steps.put_nowait(piece)

    def finish(self) -> None:
        self.steps.put_nowait(None)

    async def __call__(self, request: Request) -> AsyncIterator[Event]:
        try:
            while (piece := await self.steps.get()) is not None:
                self.given += 1
                yield Content(piece)
            yield Done()
        finally:
            self.closed.set()
