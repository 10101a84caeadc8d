"""What tests share: a real server of Redis' kind, nodes on real sockets, checks after each test."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from server import Settings, create_app
from server.transport.access import ACCESS
from server.transport.context import CONTEXT
from server.transport.doorstep import Runner
from server.upstream.demo import demo
from tests import sources
from tests.clients import Server
from tests.fake_upstream import serving
from tests.processes import Process, serve
from tests.redis_server import RedisServer, binaries

MakeNode = Callable[..., Awaitable[Server]]
MakeProcess = Callable[..., Awaitable[Process]]

LONG = ("ops/test_front", "openapi/", "matrix/", "browser/", "faults/", "deployments", "fuzz/", "model/")
"""What takes long is begun first: else one process is still at it when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files for processes beside each other."""

    def place(item: pytest.Item) -> int:
        file, _, _ = item.nodeid.partition("::")
        return next((at for at, part in enumerate(LONG) if part in file), len(LONG))

    items.sort(key=place)


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
    assert not left or not (await asyncio.wait(left, timeout=10))[1]


@pytest.fixture
async def node(make_node: MakeNode) -> Server:
    """A node as it comes."""
    return await make_node()


@pytest.fixture
async def quick(make_node: MakeNode) -> Server:
    """A node whose demo speaks five times as fast, for programs that ask it for no rate."""
    return await make_node({"demo": demo(rate=150)})


@pytest.fixture
async def stepped() -> sources.Stepped:
    return sources.Stepped()


@pytest.fixture
async def pair(make_node: MakeNode, stepped: sources.Stepped) -> list[Server]:
    """Two nodes over one Redis, whose upstreams are of this process."""
    return [await make_node({"stepped": stepped, "paced": sources.paced}) for _ in range(2)]


@pytest.fixture
async def make_process(redis_server: RedisServer) -> AsyncIterator[MakeProcess]:
    """Start nodes as processes; `redis` is a URL, by default that of the shared server."""
    async with AsyncExitStack() as running:

        async def make(redis: str | None = None, **flags: Any) -> Process:
            node = await serve(redis or redis_server.url, **flags)
            running.push_async_callback(node.end)
            return node

        yield make


@pytest.fixture
async def fake() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """A fake model server in this process: its base URL, and what was asked of it."""
    async with serving() as server:
        yield server


@pytest.fixture
async def nothing_is_left() -> AsyncIterator[None]:
    """Fail on a task or an open transport that outlives its test: its warning is an error."""
    before = asyncio.all_tasks()
    yield
    gc.collect()
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    assert left == []


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session
