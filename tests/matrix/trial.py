"""A client's four trials, side by side: it streams, is cut, aborts, and has a failing upstream."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from tests import processes
from tests.fake_upstream import expected_text
from tests.matrix import browser, packages
from tests.matrix.link import Link
from tests.matrix.table import BROWSER, PYTHON, Client
from tests.waiting import HANG

PATIENCE = 60.0
CUT_AT = 40
TRIALS: dict[str, dict[str, Any]] = {
    "streams": {"tokens": 60, "rate": 200},
    "resumes": {"tokens": 120, "rate": 150},
    "aborts": {"tokens": 100_000, "rate": 100},
    "fails": {"tokens": 20, "script": "truncated"},
}
ABORT_AFTER = 200


@dataclass
class Outcome:
    """What a client read in one trial, how that ended, and what became of the upstream's connection."""

    seed: str
    text: str = ""
    end: str | None = None
    cuts: int = 0
    aborting: float | None = None
    closed: dict[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> str:
        """The text that the upstream was asked for."""
        return expected_text(self.seed, min(TRIALS[self.seed.rpartition(".")[2]]["tokens"], 2000))

    @property
    def close_ms(self) -> float:
        """Milliseconds from the client's abort until the upstream saw its connection closed."""
        assert self.aborting is not None, "it never aborted"
        return float(self.closed["closed_ms"]) - self.aborting

    def hear(self, line: dict[str, Any]) -> None:
        """Take a line of the client's."""
        self.text = "" if "reset" in line else self.text + line.get("text", "")
        self.end = line.get("end", self.end)
        self.aborting = line.get("aborting", self.aborting)


@dataclass(frozen=True, slots=True)
class Site:
    """Two nodes, and the upstream of both."""

    ports: list[int]
    upstream: str


@asynccontextmanager
async def site(redis_url: str) -> AsyncIterator[Site]:
    """Run an upstream and two nodes."""
    upstream, url = await processes.spawn_upstream()
    flags = {"upstream": f"{url}/v1", "model": "m", "linger": 1}
    nodes: list[processes.Process] = []
    try:
        for _ in range(2):
            nodes.append(await processes.serve(redis_url, **flags))
        yield Site([node.port for node in nodes], url)
    finally:
        for node in nodes:
            await node.end()
        upstream.kill()
        await upstream.wait()


async def trials(client: Client, where: Site) -> dict[str, Outcome]:
    """Put a client through its trials."""
    outcomes = {name: Outcome(f"{client.script}.{name}") for name in TRIALS}
    links = {
        name: Link(where.ports, f"{outcomes[name].seed}:{CUT_AT}".encode() if name == "resumes" else None)
        for name in TRIALS
    }
    for link in links.values():
        await link.start()
    tasks = {
        name: {
            "url": links[name].url,
            "body": {"model": "m", "seed": outcomes[name].seed, **body},
            "stop": ABORT_AFTER if name == "aborts" else 0,
        }
        for name, body in TRIALS.items()
    }
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                async with aclosing(said(client, tasks)) as lines:
                    async for line in lines:
                        outcomes[line["task"]].hear(line)
        outcomes["aborts"].closed = await _closed(where, outcomes["aborts"].seed)
        outcomes["resumes"].cuts = links["resumes"].cuts
    finally:
        for link in links.values():
            await link.aclose()
    return outcomes


def said(client: Client, tasks: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Run a client, wherever it runs; yield what it says."""
    return browser.spoken(client.script, tasks) if client in BROWSER else _spoken(client, tasks)


async def _spoken(client: Client, tasks: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    python = client in PYTHON
    folder = packages.CLIENTS if python else packages.npm() / "clients"
    program = sys.executable if python else str(packages.node())
    process = await asyncio.create_subprocess_exec(
        program, str(folder / client.script), orjson.dumps(tasks).decode(),
        stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        env={**os.environ, "PYTHONPATH": str(packages.pypi()) if python else ""},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            yield orjson.loads(line)
        await process.wait()
    except (GeneratorExit, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise


async def _closed(where: Site, seed: str) -> dict[str, Any]:
    """Return the upstream's record of a stream, once it has ended."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(HANG):
        while True:
            async with http.get(f"{where.upstream}/stats") as answer:
                for record in (await answer.json())["closed"]:
                    if record["seed"] == seed:
                        return dict(record)
            await asyncio.sleep(0.02)
