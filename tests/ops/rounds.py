"""What each client makes of each event: all of them read at once, and one thing befalls the fleet."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.fake_upstream import expected_text
from tests.matrix import trial
from tests.matrix.table import BROWSER, Client
from tests.ops.fleet import EVENTS, PATIENCE, Fleet, until

RATE = 40
BEGUN = 200
"""Characters that every client has before the event."""
MODELS = dict.fromkeys(EVENTS, ("goes_on",)) | {"kill": ("goes_on", "ends")}
"""The models that are asked, by event."""


@dataclass
class Reading(trial.Outcome):
    """What a client read of an answer, and how many tokens the whole of it had."""

    tokens: int = 0

    @property
    def whole(self) -> str:
        """The text that the model server said, as far as it came."""
        return expected_text(self.seed, self.tokens)


Readings = dict[Client, dict[str, Reading]]
"""By client and model."""


@dataclass(frozen=True)
class Round:
    """What came of an event: to clients that read, and to those that asked meanwhile, by status."""

    readings: Readings
    asked: Counter[int]


async def held(fleet: Fleet, clients: Iterable[Client], event: str) -> Round:
    """Let clients read, let it happen, see that they go on, and let the answers end."""
    readings: Readings = {
        client: {model: Reading(f"{client.script}.{event}.{model}") for model in MODELS[event]}
        for client in clients
    }
    listeners = [
        asyncio.create_task(_listen(client, part, fleet, event))
        for client, own in readings.items()
        for part in _parts(client, own)
    ]
    every = [reading for own in readings.values() for reading in own.values()]
    async with aiohttp.ClientSession() as http, _asking(http, fleet) as asked:
        with suppress(TimeoutError):
            await until(lambda: all(len(reading.text) > BEGUN for reading in every))
            await EVENTS[event](fleet)
            await until(_further(every))
        await http.post(f"{fleet.upstream}/over/{event}")
        await asyncio.wait(listeners, timeout=PATIENCE)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        async with http.get(f"{fleet.upstream}/stats") as answer:
            said = {record["seed"]: record["sent"] for record in (await answer.json())["closed"]}
    for reading in every:
        reading.tokens = said.get(reading.seed, 0)
    return Round(readings, asked)


def _parts(client: Client, own: dict[str, Reading]) -> list[dict[str, Reading]]:
    """Return what a client may do at once: a browser's opens one page after the other."""
    return [{model: own[model]} for model in own] if client in BROWSER else [own]


async def _listen(client: Client, part: dict[str, Reading], fleet: Fleet, event: str) -> None:
    endless = {"tokens": 100_000, "rate": RATE, "until": event}
    tasks: dict[str, Any] = {}
    for model, reading in part.items():
        body = {"model": model, "seed": reading.seed, **endless}
        tasks[reading.seed] = {"url": fleet.url, "stop": 0, "body": body}
    named = {reading.seed: reading for reading in part.values()}
    async with aclosing(trial.said(client, tasks)) as lines:
        async for line in lines:
            named[line["task"]].hear(line)


def _further(every: list[Reading]) -> Callable[[], bool]:
    """Return whether everyone has got more than now, or an end."""
    had = [len(reading.text) for reading in every]
    return lambda: all(r.end or len(r.text) > h for r, h in zip(every, had, strict=True))


@asynccontextmanager
async def _asking(http: aiohttp.ClientSession, fleet: Fleet) -> AsyncIterator[Counter[int]]:
    """Start short sessions, one after the other."""
    statuses: Counter[int] = Counter()

    async def ask() -> None:
        body = {"model": "demo", "prompt": "x", "tokens": 1}
        while True:
            async with http.post(f"{fleet.url}/v1/sessions", json=body) as answer:
                statuses[answer.status] += 1
            await asyncio.sleep(0.02)

    asking = asyncio.create_task(ask())
    yield statuses
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
