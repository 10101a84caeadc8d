"""Nodes as processes of their own, to be killed, stopped and drained."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import psutil

from server.events import Content
from server.upstream import Request
from server.upstream.demo import demo
from tests.clients import Server

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def memory(pid: int) -> int:
    """Return the bytes that a process holds."""
    return psutil.Process(pid).memory_info().rss


def descriptors(pid: int) -> int:
    """Return how many files a process has open."""
    return psutil.Process(pid).num_fds()


class Process(Server):
    """A node that `run.py` serves."""

    process: asyncio.subprocess.Process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self) -> int:
        if self.process.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        return await self.process.wait()


async def serve(
    redis_url: str,
    *,
    program: Sequence[str] = ("run.py",),
    errors: IO[bytes] | None = None,
    **flags: object,
) -> Process:
    """Start a node on a free port and return it once it serves; `program` is what Python runs."""
    options = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in flags.items()
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, "--port=0", f"--redis={redis_url}", *options,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=errors,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    node = Process(int(line.split(" (")[0].rpartition(":")[2]))
    node.process = process
    return node


async def spawn_upstream() -> tuple[asyncio.subprocess.Process, str]:
    """Start the fake model server as a process; return it and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fake_upstream", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    return process, line.split()[-1].removesuffix("/v1")


async def demo_text(prompt: str, tokens: int) -> str:
    """Return what the demo upstream says, to compare with."""
    request = Request("demo", [{"role": "user", "content": prompt}], {"tokens": tokens, "rate": 0})
    return "".join([e.content async for e in demo()(request) if isinstance(e, Content)])
