"""What the scenarios share: nodes, readers and a model server as processes, and broken networks."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from tests.conftest import MakeProcess
from tests.faults.network import Cable, Switch
from tests.processes import ROOT, spawn_upstream
from tests.redis_server import RedisServer, binaries
from tests.waiting import HANG

LEASE = 1.0
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that may have any number of connections, each of its own."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=60, sock_read=20)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


@pytest.fixture
def make_process(make_process: MakeProcess) -> MakeProcess:
    """Start nodes that are quick to be given up."""
    return partial(make_process, lease=LEASE, linger=1, drain=0.2, log_level="error")


@dataclass(frozen=True)
class Reading:
    """A process full of readers, and the file of what they have seen."""

    process: asyncio.subprocess.Process
    file: Path

    def lines(self) -> list[str]:
        """Return the whole lines so far."""
        return self.file.read_text().split("\n")[:-1] if self.file.exists() else []


@pytest.fixture
async def make_reading(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Reading]]]:
    """Start a process that reads sessions: `base`, then what each is read over, by session id."""
    running: list[Reading] = []

    async def make(base: str, wanted: dict[str, str], *prefix: str) -> Reading:
        file = tmp_path / f"reading{len(running)}.jsonl"
        names = [f"{sid}:{transport}" for sid, transport in wanted.items()]
        command = (*prefix, sys.executable, "-m", "tests.faults.readers", base, str(file), *names)
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
        running.append(Reading(process, file))
        return running[-1]

    yield make
    for reading in running:
        if reading.process.returncode is None:
            reading.process.kill()
        await reading.process.wait()


@dataclass(frozen=True)
class ModelServer:
    """The fake model server as a process."""

    url: str
    http: aiohttp.ClientSession

    async def stats(self) -> dict[str, Any]:
        """Return what was asked of it, and what became of each stream."""
        async with self.http.get(f"{self.url}/stats") as response:
            return await response.json()

    async def stream(self, seed: str) -> dict[str, Any]:
        """Return what became of one stream, once it has been asked for."""
        async with asyncio.timeout(HANG):
            while True:
                stats = await self.stats()
                found = [each for each in stats["open"] + stats["closed"] if each["seed"] == seed]
                if found:
                    (one,) = found
                    return one
                await asyncio.sleep(0.01)

    async def hung_up(self, seed: str) -> bool:
        """Say whether a stream was closed by whoever asked for it."""
        found = await self.stream(seed)
        return found["closed_at"] is not None and found["closed_by_peer"]


@pytest.fixture
async def upstream(http: aiohttp.ClientSession) -> AsyncIterator[ModelServer]:
    process, url = await spawn_upstream()
    yield ModelServer(url, http)
    process.kill()
    await process.wait()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the shared server, to look into it."""
    client = redis_server.client()
    yield client
    client.close()


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start servers of Redis' kind with options of their own."""
    servers: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        folder = tmp_path / f"r{len(servers)}"
        folder.mkdir()
        servers.append(RedisServer(binaries()[0], folder, *options))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
async def make_switch() -> AsyncIterator[Callable[[RedisServer], Awaitable[Switch]]]:
    """Put a proxy before a server."""
    switches: list[Switch] = []

    async def make(server: RedisServer) -> Switch:
        switch = Switch(str(server.socket))
        await switch.start()
        switches.append(switch)
        return switch

    yield make
    for switch in switches:
        await switch.aclose()


@pytest.fixture
def cable() -> Iterator[Cable]:
    try:
        cable = Cable().__enter__()
    except OSError as error:
        pytest.skip(str(error))
    yield cable
    cable.__exit__(None, None, None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The wall clock of processes started from now on: seconds to add, in a file."""
    if not FAKETIME.exists():
        pytest.skip("Debian's faketime is not installed")
    file = tmp_path / "clock"
    file.write_text("+0\n")
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(file))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    # A wall clock may jump; the monotonic ones never do.
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    return file
