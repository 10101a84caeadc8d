"""A process full of clients: each session is read over every transport, steered and abandoned by dice.

python -m tests.chaos.client --folder F --name c0 --ports 1,2,3 --seed 1 --seconds 60 --at-once 20
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp

from tests.chaos.reading import BROKEN, TRANSPORTS, Gone, Item, is_final
from tests.chaos.steering import steer_by_http, steer_in_band

PATIENCE = 20.0
"""Seconds after the last start in which every session must have come to its end."""
SCRIPTS = ("truncated", "error", "malformed", "stall", "reset", "no_done")


class World:
    """What the clients of one process share: nodes, dice, and the file of what they saw."""

    def __init__(self, folder: Path, name: str, ports: list[int], seed: int) -> None:
        self.name = f"{name}.{seed}"
        self.ports = ports
        self.dice = random.Random(f"{seed}/{name}")
        self.until = 0.0
        self._file = (folder / f"{name}.jsonl").open("w", buffering=1)
        self._count = 0

    def record(self, kind: str, **fields: Any) -> None:
        """Write what happened, with when."""
        self._file.write(json.dumps({"at": time.monotonic(), "kind": kind, **fields}) + "\n")

    def mint(self, what: str) -> str:
        """Return a name that no other has."""
        self._count += 1
        return f"{self.name}-{what}{self._count}"

    def url(self, path: str) -> str:
        """Return an address on any of the nodes."""
        return f"http://127.0.0.1:{self.dice.choice(self.ports)}{path}"

    @property
    def late(self) -> bool:
        """Whether the run should be over by now."""
        return time.monotonic() > self.until


async def read_on(
    world: World, http: aiohttp.ClientSession, sid: str, client: str, last: str | None,
    only: str | None = None,
) -> None:  # fmt: skip
    """Read a session to its end, over connection after connection, each from the last event on.

    Over one transport `only`, none is left before it breaks.
    """
    while not world.late:
        conn, transport = world.mint("conn"), only or world.dice.choice(list(TRANSPORTS))
        world.record("attach", client=client, conn=conn, sid=sid, transport=transport, after=last)
        most = None if only else world.dice.choice((10, 40, None, None))
        how, last = await _one(world, http, sid, client, conn, transport, last, most)
        world.record("closed", client=client, conn=conn, sid=sid, how=how)
        if how in ("final", "gone"):
            return
        await asyncio.sleep(world.dice.uniform(0.0, 0.3))


async def _one(
    world: World, http: aiohttp.ClientSession, sid: str, client: str, conn: str, transport: str,
    last: str | None, left: int | None,
) -> tuple[str, str | None]:  # fmt: skip
    """Read over one connection, at most `left` events; return why no more, and the last event."""
    items: AsyncIterator[Item] = TRANSPORTS[transport](http, world.url(""), sid, last)
    try:
        async for item in items:
            if "id" not in item:
                world.record("notice", client=client, conn=conn, sid=sid, **item)
                last = None if item["type"] == "reset" else last
                continue
            world.record("event", client=client, conn=conn, sid=sid, **item)
            last = item["id"]
            if is_final(item["line"]):
                return "final", last
            if left is not None and (left := left - 1) == 0:
                return "left", last
    except Gone:
        return "gone", last
    except BROKEN:
        return "broken", last
    finally:
        await items.aclose()  # type: ignore[attr-defined]
    return "ended", last


async def _start(world: World, http: aiohttp.ClientSession) -> tuple[str | None, bool]:
    """Start a session; return its id, and whether an heir may go on with it."""
    dice = world.dice
    seed, tokens = world.mint("seed"), dice.choice((20, 60, 120))
    body = {"prompt": "x", "seed": seed, "tokens": tokens, "rate": dice.choice((40, 100, 400))}
    script = dice.choice(SCRIPTS) if dice.random() < 0.15 else "whole"
    heir = dice.random() < 0.25
    if heir:
        script = "whole"
        body |= {"model": dice.choice(("goes-on", "begins-anew"))}
    body |= {"script": script}
    key = world.mint("key") if not heir and dice.random() < 0.25 else None
    headers = {"Idempotency-Key": key} if key else {}
    sids = set()
    for answer in await asyncio.gather(
        *(post(http, world.url("/v1/sessions"), body, headers) for _ in range(2 if key else 1))
    ):
        if answer is not None:
            sids.add(answer["id"])
    for sid in sids:
        world.record("started", sid=sid, seed=seed, tokens=tokens, key=key, script=script)
    return min(sids, default=None), heir


async def post(http: aiohttp.ClientSession, url: str, body: Any, headers: Any) -> dict[str, Any] | None:
    """Start a session; return the answer, or None if there was no good one."""
    try:
        async with http.post(url, json=body, headers=headers) as response:
            return await response.json() if response.status in (200, 201) else None
    except BROKEN:
        return None


async def _session(world: World, http: aiohttp.ClientSession) -> None:
    sid, heir = await _start(world, http)
    if sid is None:
        await asyncio.sleep(0.1)
        return
    readers = [read_on(world, http, sid, world.mint("client"), None) for _ in range(2)]
    dice = world.dice.random()
    if heir:
        pass  # an upstream of a node that is frozen is not the one that its abort closes
    elif dice < 0.35:
        readers.append(steer_in_band(world, http, sid, read_on))
    elif dice < 0.6:
        readers.append(steer_by_http(world, http, sid))
    await asyncio.gather(*readers)


async def _keep_going(world: World, http: aiohttp.ClientSession, stop: float) -> None:
    while time.monotonic() < stop:
        await _session(world, http)


async def run(world: World, seconds: float, at_once: int) -> None:
    """Run sessions, `at_once` at a time, for some seconds, and all of them to their end."""
    stop = time.monotonic() + seconds
    world.until = stop + PATIENCE
    async with connected() as http:
        await asyncio.gather(*(_keep_going(world, http, stop) for _ in range(at_once)))


def connected() -> aiohttp.ClientSession:
    """Return what opens a connection for each request, and waits for none for ever."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=4)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(timeout=timeout, connector=connector)


def main(doc: str, run: Callable[[World, float, int], Coroutine[Any, Any, None]] = run) -> None:
    """Run the clients of one process."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--ports", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--at-once", type=int, default=20)
    args = parser.parse_args()
    world = World(args.folder, args.name, [int(port) for port in args.ports.split(",")], args.seed)
    asyncio.run(run(world, args.seconds, args.at_once))


if __name__ == "__main__":
    main(__doc__)
