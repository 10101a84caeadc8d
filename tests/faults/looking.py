"""What can be seen of a running system from outside, and waiting until it is so."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import redis

from tests.clients import Server
from tests.processes import Process


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 10.0) -> float:
    """Wait until something is so, and return how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            outcome = condition()
            if await outcome if inspect.isawaitable(outcome) else outcome:
                return time.monotonic() - began
            await asyncio.sleep(0.01)


async def session(http: aiohttp.ClientSession, node: Server, sid: str) -> dict[str, Any]:
    """Return the session object."""
    async with http.get(node.url(f"/v1/sessions/{sid}")) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def ready(http: aiohttp.ClientSession, node: Server) -> bool:
    """Say whether a node takes new clients."""
    async with http.get(node.url("/readyz")) as response:
        return response.status == 200


def viewers(client: redis.Redis, sid: str) -> int:
    """Count who watches a session, on all nodes, as Redis was told."""
    return sum(int(line.split()[0]) for line in client.hvals(f"tw:{{{sid}}}:v"))


async def control(http: aiohttp.ClientSession, node: Server, sid: str, action: str) -> dict[str, Any]:
    """Pause, resume or abort a session over HTTP."""
    async with http.post(node.url(f"/v1/sessions/{sid}/{action}")) as response:
        assert response.status == 200, await response.text()
        return await response.json()


def descriptors(node: Process) -> int:
    """Count the files that a node has open."""
    return len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))


def memory(node: Process) -> int:
    """Return the bytes of memory that a node occupies."""
    return psutil.Process(node.process.pid).memory_info().rss
