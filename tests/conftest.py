"""What tests share: a real server of Redis' kind, nodes on real sockets, checks after each test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from server import Settings, create_app
from server.transport.access import ACCESS
from server.transport.context import CONTEXT
from server.transport.doorstep import Runner
from tests.clients import Server
from tests.redis_server import RedisServer, binaries

MakeNode = Callable[..., Awaitable[Server]]


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(binaries()[0], tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=binaries(), ids=lambda path: Path(path).name)
def each_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of each kind that this machine has."""
    server = RedisServer(request.param, tmp_path)
    yield server
    server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may kill."""
    server = RedisServer(binaries()[0], tmp_path)
    yield server
    server.kill()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> Iterator[RedisServer]:
    """The shared server, emptied; afterwards every key must have a time to live."""
    client = shared_redis.client()
    client.flushall()
    # As if it had been so for long: else who asks for what is not there waits for a while.
    client.set("tw:since", 0, ex=3600)
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
        options = {"handler_cancellation": True, "access_log": None, "shutdown_timeout": 1.0}
        runner = Runner(app, **options)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        return Server(runner.addresses[0][1], app[CONTEXT].node, app[ACCESS])

    yield make
    for runner in runners:
        await runner.cleanup()
    here = asyncio.current_task()
    left = {task for task in asyncio.all_tasks() - before if task is not here}
    # Those that were told to end get a moment for it.
    assert not left or not (await asyncio.wait(left, timeout=2))[1]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session
