"""Several processes on one port: a parent that starts them, replaces them and ends with them.

The parent serves nothing. It owns the private Valkey, if there is one, holds the port, and runs
its own command once more for each worker, with that worker's `Post` in the environment.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

VARIABLE = "_TOKENWIRE_WORKER"
PR_SET_PDEATHSIG = 1
BACKOFF = (0.1, 5.0)  # seconds before a crashed worker is replaced: at first, at most
HEALTHY = 10.0  # seconds after which a crash counts as the first again

log = logging.getLogger(__name__)


class Post(NamedTuple):
    """What a worker is told: its parent's pid, its port, the pipe to report on."""

    parent: int
    port: int
    pipe: int

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Self | None:
        """Return the post of this process, or None if it is no worker."""
        return cls(*map(int, env[VARIABLE].split())) if VARIABLE in env else None

    def take(self) -> None:
        """Tie this process to its parent: it is killed when that one dies (Linux)."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self.parent:
            sys.exit(1)

    def report(self) -> None:
        """Tell the parent that this worker accepts connections."""
        os.write(self.pipe, b".")
        os.close(self.pipe)


def hold(host: str, port: int) -> socket.socket:
    """Return a socket that holds the port for workers to share; raise `OSError` if it is taken."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # The first, without SO_REUSEPORT, fails where somebody listens; the second would join them.
    with socket.create_server(address[:2], family=family) as probe:
        address = probe.getsockname()
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(address)
    return held


@dataclass
class Crew:
    """`count` workers that serve on `port`; `announce` is called once all of them do."""

    count: int
    port: int
    patience: float
    announce: Callable[[], None]
    env: Mapping[str, str]
    _alive: set[asyncio.subprocess.Process] = field(default_factory=set)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _code: int = 0
    _ready: int = 0
    
    async def run(self) -> int:
        """Keep the workers running until SIGTERM or SIGINT; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        reports, pipe = os.pipe()
        loop.add_reader(reports, self._on_report, reports)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.count):
                    group.create_task(self._keep(pipe))
                group.create_task(self._end())
        finally:
            loop.remove_reader(reports)
            os.close(reports)
            os.close(pipe)
        return self._code
