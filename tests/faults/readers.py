"""A client that reads a session to its end, over as many connections as that takes.

As a process of its own: python -m tests.faults.readers BASE FILE SID:TRANSPORT …
writes each event, and when it came, to FILE.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from tests.chaos.reading import BROKEN, FINALS, TRANSPORTS
from tests.clients import seqs, start, text_of
from tests.processes import Process, demo_text
from tests.waiting import HANG, until

Event = dict[str, Any]


def _nobody(event: Event) -> None:
    """Be told, and do nothing."""


class Reader:
    """One client of one session; `waits` are the seconds until each connection's first item."""

    def __init__(
        self, sid: str, transport: str = "sse", heard: Callable[[Event], None] = _nobody
    ) -> None:
        self.sid = sid
        self.events: list[Event] = []
        self.notices: list[str] = []
        self.waits: list[float] = []
        self._transport = transport
        self._heard = heard

    @property
    def last(self) -> str | None:
        """The id of the last event."""
        return self.events[-1]["id"] if self.events else None

    @property
    def ended(self) -> bool:
        """Whether the final event has come."""
        return bool(self.events) and self.events[-1]["type"] in FINALS

    async def read(self, http: aiohttp.ClientSession, base: Callable[[], str]) -> list[Event]:
        """Read to the end; `base` says where to connect, each time."""
        while True:
            with suppress(*BROKEN):
                await self.connect(http, base())
            if self.ended:
                return self.events
            await asyncio.sleep(random.uniform(0.02, 0.1))

    async def connect(self, http: aiohttp.ClientSession, base: str) -> None:
        """Read on over one connection, from the last event."""
        asked, first = time.monotonic(), True
        items = TRANSPORTS[self._transport](http, base, self.sid, self.last)
        async with aclosing(items):  # type: ignore[type-var]
            async for item in items:
                if first:
                    self.waits.append(time.monotonic() - asked)
                    first = False
                self._take(item)
                if self.ended:
                    return

    def _take(self, item: dict[str, Any]) -> None:
        if "id" in item:
            event = json.loads(item["line"]) | {"id": item["id"]}
            self.events.append(event)
            self._heard(event)
            return
        self.notices.append(item["type"])
        if item["type"] == "reset":
            self.events.clear()


Watched = tuple[list[Reader], list[asyncio.Task[list[Event]]]]
"""Readers of one session, and their readings."""


async def watched(http: aiohttp.ClientSession, nodes: list[Process], **body: Any) -> Watched:
    """Start a session on the first node, and have it read on each."""
    sid = await start(http, nodes[0], **body)
    readers = [Reader(sid) for _ in nodes]
    work = [
        reader.read(http, lambda node=node: node.url(""))
        for reader, node in zip(readers, nodes, strict=True)
    ]
    readings = list(map(asyncio.create_task, work))
    await until(lambda: all(len(reader.events) > 10 for reader in readers))
    return readers, readings


async def whole(readers: list[Reader], readings: list[asyncio.Task[list[Event]]], tokens: int) -> None:
    """Wait for the end of what `watched` began, and see that each read all of the demo's text once."""
    await asyncio.wait_for(asyncio.gather(*readings), HANG)
    text = await demo_text("w", tokens)
    for reader in readers:
        assert text_of(reader.events) == text
        assert seqs(reader.events) == list(range(1, tokens + 2))
        assert "reset" not in reader.notices


async def _read_all(base: str, readers: list[Reader]) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        await asyncio.gather(*(reader.read(http, lambda: base) for reader in readers))


def main(base: str, file: str, *wanted: str) -> None:
    """Read sessions to their ends, and write down what comes."""
    with Path(file).open("w", buffering=1) as out:

        def keep(sid: str, event: Event) -> None:
            out.write(json.dumps({"sid": sid} | event) + "\n")

        readers = []
        for each in wanted:
            sid, _, transport = each.partition(":")
            readers.append(Reader(sid, transport, partial(keep, sid)))
        asyncio.run(_read_all(base, readers))


if __name__ == "__main__":
    main(*sys.argv[1:])
