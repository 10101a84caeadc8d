"""One long answer, a token every 100 ms, read without a break: by SSE and by WebSocket, from one node.

python -m tests.chaos.canary --folder F --name canary --ports 1 --seed 1 --seconds 60

It is judged as every other session is; `gaps` finds in the history when nothing came, and why.
"""

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.chaos.client import PATIENCE, World, connected, main, post, read_on
from tests.chaos.history import History, meeting

NAME = "canary"
RATE = 10
LONG = 1.0
"""Seconds between two tokens that are worth a word."""
TRANSPORTS = ("sse", "ws")


class Gap(NamedTuple):
    """A silence: since when (monotonic seconds), how long, over which transport, through which faults."""

    at: float
    seconds: float
    transport: str
    faults: tuple[str, ...]


async def sing(world: World, seconds: float, _: int = 1) -> None:
    """Have one session last so long; another, if it is ended before."""
    stop = time.monotonic() + seconds
    world.until = stop + PATIENCE
    async with connected() as http:
        while (tokens := int((stop - time.monotonic()) * RATE)) > RATE:
            seed = world.mint("seed")
            body = {"prompt": "x", "seed": seed, "tokens": tokens, "rate": RATE}
            answer = await post(http, world.url("/v1/sessions"), body, {})
            if answer is None:
                await asyncio.sleep(0.1)
                continue
            sid = answer["id"]
            world.record("started", sid=sid, seed=seed, tokens=tokens, key=None, script="whole")
            readers = (read_on(world, http, sid, world.mint(how), None, how) for how in TRANSPORTS)
            await asyncio.gather(*readers)


def gaps(history: History) -> Iterator[Gap]:
    """Yield each silence of the canary, as its readers met it."""
    for session in history.sessions.values():
        if not session.seed.startswith(NAME):
            continue
        for records in session.clients.values():
            transport = next(r["transport"] for r in records if r["kind"] == "attach")
            told = [record["at"] for record in records if record["kind"] == "event"]
            for before, after in pairwise(told):
                if after - before > LONG:
                    met = (fault["name"] for fault in meeting(history, before, after))
                    yield Gap(before, after - before, transport, tuple(met))


if __name__ == "__main__":
    main(__doc__, sing)
