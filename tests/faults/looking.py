"""What can be seen of a running system from outside."""

from pathlib import Path

import aiohttp
import psutil
import redis

from tests.clients import Server
from tests.processes import Process


async def ready(http: aiohttp.ClientSession, node: Server) -> bool:
    """Say whether a node takes new clients."""
    async with http.get(node.url("/readyz")) as response:
        return response.status == 200


def viewers(client: redis.Redis, sid: str) -> int:
    """Count who watches a session, on all nodes, as Redis was told."""
    return sum(int(line.split()[0]) for line in client.hvals(f"tw:{{{sid}}}:v"))


def descriptors(node: Process) -> int:
    """Count the files that a node has open."""
    return len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))


def memory(node: Process) -> int:
    """Return the bytes of memory that a node occupies."""
    return psutil.Process(node.process.pid).memory_info().rss
