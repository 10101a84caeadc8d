"""A deterministic, seeded, rate-controlled text that needs no key.

The request may choose `rate` (tokens a second, 0 for as fast as possible), `tokens`, `seed`,
`reasoning` and `tool_call` (true to have some), and `fail` (truncated, error or stall).
"""

import asyncio
import itertools
import random
import re
from collections.abc import AsyncIterator, Iterator

import msgspec

from server.errors import UpstreamFailed, UpstreamRejected, UpstreamStall
from server.events import Content, Done, Event, Reasoning, ToolCall
from server.upstream import Request, Source

_OPENINGS = ("A stream", "One log", "Every token", "A cursor", "The reader", "This answer")
_VERBS = ("keeps", "carries", "resumes", "follows", "orders", "delivers", "survives")
_OBJECTS = (
    "its place", "each word once", "the whole story", "a broken wire", "two transports",
    "what came before", "the next page", "a sleeping laptop",
)  # fmt: skip
_TURNS = ("and then", "while", "because", "so that", "even when", "until")
_LEAST_SLEEP = 0.002


class _Options(msgspec.Struct):
    rate: float | None
    tokens: int | None = None
    seed: int | None = None
    reasoning: bool = False
    tool_call: bool = False
    fail: str | None = None


def demo(rate: float = 30.0) -> Source:
    """Return the source; `rate` is what a request that names none gets."""

    async def stream(request: Request) -> AsyncIterator[Event]:
        options = _options(request, rate)
        loop = asyncio.get_running_loop()
        start, count = loop.time(), 0
        for place, event in enumerate(_behind(request.continued, _script(request, options))):
            # By the clock of the whole stream, so that what one sleep is late the next makes up for.
            late = start + place / options.rate - loop.time() if options.rate else -1.0
            if late >= _LEAST_SLEEP or place % 256 == 255:
                await asyncio.sleep(max(late, 0.0))
            yield event
            count = place + 1
        if options.fail is not None:
            _fail(options.fail)
            return
        reason = "tool_calls" if options.tool_call else "stop"
        yield Done(reason, _usage(len(request.prompt.split()), count))

    return stream


def _options(request: Request, rate: float) -> _Options:
    try:
        options = msgspec.convert({"rate": rate, **request.parameters}, _Options)
    except msgspec.ValidationError as error:
        raise UpstreamRejected(f"demo: {error}") from None
    if not (0 <= (options.rate or 0) <= 1e6 and 0 <= (options.tokens or 0) <= 1_000_000):
        raise UpstreamRejected("demo: `rate` and `tokens` go from 0 to a million.")
    if options.fail not in (None, "truncated", "error", "stall"):
        raise UpstreamRejected("demo: `fail` is one of truncated, error, stall.")
    return options


def _fail(how: str) -> None:
    if how == "error":
        raise UpstreamFailed("The demo failed, as it was asked to.")
    if how == "stall":
        raise UpstreamStall("The demo stalled, as it was asked to.")


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _script(request: Request, options: _Options) -> Iterator[Event]:
    dice = random.Random(f"{options.seed or 0}|{request.prompt}")
    if options.reasoning:
        yield from (Reasoning(word) for word in ("Let ", "me ", "think ", "it ", "over. "))
    if options.tool_call:
        yield ToolCall(0, "call_demo", "search", "")
        yield from (ToolCall(0, arguments=part) for part in ('{"query"', ':"', "streams", '"}'))
    count = options.tokens if options.tokens is not None else 150
    yield from (Content(word) for word in itertools.islice(_words(request.prompt, dice), count))


def _behind(continued: str, script: Iterator[Event]) -> Iterator[Event]:
    """Yield what comes behind the text that there is already."""
    said = 0
    for event in script:
        if said >= len(continued):
            yield event
        elif isinstance(event, Content):
            said += len(event.content)


def _words(prompt: str, dice: random.Random) -> Iterator[str]:
    topic = " ".join(prompt.split()[:8]) or "nothing at all"
    yield from _pieces(f"You asked about **{topic}**. ")
    while True:
        for _ in range(dice.randint(2, 4)):
            parts = (dice.choice(_OPENINGS), dice.choice(_VERBS), dice.choice(_OBJECTS))
            sentence = " ".join(parts)
            if dice.random() < 0.5:
                tail = f"{dice.choice(_VERBS)} {dice.choice(_OBJECTS)}"
                sentence += f" {dice.choice(_TURNS)} it {tail}"
            yield from _pieces(sentence + ". ")
        yield "\n\n"
        if dice.random() < 0.4:
            for _ in range(3):
                yield from _pieces(f"- *{dice.choice(_VERBS)}* {dice.choice(_OBJECTS)}\n")
            yield "\n"


def _pieces(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text)
