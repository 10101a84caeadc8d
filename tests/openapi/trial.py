"""A node to be tried, schemathesis as a process that tries it, and what must be as before afterwards."""

import asyncio
import os
import sys
from pathlib import Path

import aiohttp
import psutil

from server.callers import Right
from server.ops import keys
from server.session.node import Node
from server.upstream.demo import demo
from tests.clients import Server

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).parent / "schemathesis.toml"
KEY, _kept = keys.mint("trial", frozenset(Right))
MANY = 1 << 30
SETTINGS = {
    "keys": (_kept.line,),
    # Whoever asks so much would be told to come back.
    "max_requests": MANY, "max_running": MANY, "max_paused": MANY, "max_stored": MANY,
    # What nobody ends, a push for one, ends soon by itself.
    "first_token": 0.3, "upstream_stall": 0.3, "push_grace": 0.3, "max_seconds": 10.0, "pause_ttl": 0.5,
    "linger": 0.5, "lease": 5.0,
}  # fmt: skip
UPSTREAMS = {"demo": demo(rate=2000)}
PATIENCE = 60.0
Held = dict[str, int]


async def tried(server: Server, *options: str) -> tuple[int, str]:
    """Let schemathesis try a server; return its exit code and what it says."""
    command = (
        sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(CONFIG), "run",
        server.url("/openapi.json"), "--header", f"Authorization: Bearer {KEY}", *options,
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.openapi.hooks", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, told.decode()


def held(node: Node) -> Held:
    """Count what a node holds: this process's descriptors and tasks, sessions, viewers."""
    levels = node.levels()
    return {
        "descriptors": psutil.Process().num_fds(),
        "tasks": len(asyncio.all_tasks()),
        "tails": len(node._hub.followers),
        "viewers": sum(levels.viewers.values()),
        **levels.sessions,
    }


async def used(server: Server) -> Held:
    """Have one session, so that all is open that stays open; return what is held when it is gone."""
    assert server.node is not None
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        asked = http.post(server.url("/v1/sessions?stream=sse"), json={"prompt": "x"})
        async with asked as response:
            assert b"[DONE]" in await response.read()
    async with asyncio.timeout(PATIENCE):
        while held(server.node)["tails"]:
            await asyncio.sleep(0.05)
    return held(server.node)


async def left_over(node: Node, before: Held) -> Held:
    """Return what a node holds beyond what it held before, once it is nothing, or nothing more goes."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        more = {name: count - before[name] for name, count in held(node).items() if count > before[name]}
        if not more or asyncio.get_running_loop().time() > deadline:
            return more
        await asyncio.sleep(0.05)
