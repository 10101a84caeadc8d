"""Connections that ask for nothing, or take for ever to ask: a real server, from two addresses."""

import asyncio
import resource

import aiohttp
import pytest

from tests.waiting import HANG, until

ELSEWHERE = ("127.0.0.2", 0)


@pytest.fixture
async def node(make_process):
    return await make_process(model="demo", trust_proxy="192.0.2.1", max_connections=20, idle_timeout=1)


@pytest.fixture(autouse=True)
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_two_thousand_idle_sockets_of_one_address_keep_nobody_out(node):
    opened = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(2000)]
    connector = aiohttp.TCPConnector(local_addr=ELSEWHERE)
    async with (
        aiohttp.ClientSession(connector=connector) as elsewhere,
        elsewhere.get(node.url("/v1/models")) as response,
    ):
        assert response.status == 200
    async with asyncio.timeout(HANG):
        assert all(await asyncio.gather(*(closed(reader) for reader, _ in opened[20:])))
    for _, writer in opened:
        writer.close()


async def test_one_connection_too_many_is_told_so_in_its_clients_way(node):
    idle = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(20)]
    for path, status, words in (
        ("/v1/models", 429, "There may be 20 connections of one address at most."),
        (f"/v1/sessions/{'s' * 32}/events", 200, ": rate_limited: There may be 20 connections"),
    ):
        async with aiohttp.ClientSession() as http, http.get(node.url(path)) as response:
            assert (response.status, words in await response.text()) == (status, True)
    for _, writer in idle:
        writer.close()
    await until(lambda: _served(node))


LITTLE = (
    "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 600)); "
    "sys.argv[0] = 'run.py'; runpy.run_path('run.py', run_name='__main__')"
)


async def test_all_connections_together_leave_some_files_over(make_process):
    node = await make_process(program=("-c", LITTLE), model="demo", idle_timeout=HANG)
    assert resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE) == (600, 600)
    idle = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(540)]
    async with aiohttp.ClientSession() as http, http.get(node.url("/v1/models")) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "5")
        assert "There may be 540 connections at most." in await response.text()
    idle += [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(300)]
    async with asyncio.timeout(HANG):
        assert all(await asyncio.gather(*(closed(reader) for reader, _ in idle[540:])))
    assert not any(reader.at_eof() for reader, _ in idle[:540])
    for _, writer in idle:
        writer.close()
    await until(lambda: _served(node))


async def _served(node) -> bool:
    async with aiohttp.ClientSession() as http, http.get(node.url("/v1/models")) as response:
        return response.status == 200


WHOLE = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("first", [b"", WHOLE], ids=["first", "later"])
async def test_a_head_that_never_ends_is_not_waited_for(node, first):
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(first)
    if first:
        assert b" 200 " in await reader.readline()
    writer.write(b"GET /v1/models HTTP/1.1\r\n")
    trickle = asyncio.create_task(_trickle(writer))
    async with asyncio.timeout(HANG):
        await closed(reader)
    trickle.cancel()
    writer.close()


async def _trickle(writer: asyncio.StreamWriter) -> None:
    for place in range(1000):
        writer.write(b"X-%d: 1\r\n" % place)
        await asyncio.sleep(0.1)


async def test_a_stream_is_not_taken_for_an_idle_connection(node):
    async with aiohttp.ClientSession() as http:
        body = {"prompt": "x", "rate": 10, "tokens": 25}
        async with http.post(node.url("/v1/sessions?stream=text"), json=body) as response:
            assert len((await response.text()).split()) > 20
