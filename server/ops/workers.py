"""Several processes on one port: a parent that starts them, replaces them and ends with them.

The parent serves nothing. It owns the private Valkey, if there is one, holds the port, and runs
its own command once more for each worker, with that worker's `Post` in the environment.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Self

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
    places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = places[0]
    # Without SO_REUSEPORT this fails if somebody listens there; with it, workers would join them.
    with _bound(family, address, shared=False) as probe:
        address = probe.getsockname()
    return _bound(family, address, shared=True)


def _bound(family: int, address: Any, shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


class Crew:
    """`count` workers on `port`, each with `env`; `announce` is called once all of them serve."""

    def __init__(
        self, count: int, port: int, env: Mapping[str, str], announce: Callable[[], None]
    ) -> None:
        self._count, self._port, self._env, self._announce = count, port, env, announce
        self._alive: set[asyncio.subprocess.Process] = set()
        self._ready = 0
        self._code = 0
        self._stop = asyncio.Event()

    async def run(self, patience: float) -> int:
        """Keep the workers running until SIGTERM or SIGINT; return the exit code.

        They get SIGTERM then, and SIGKILL if they are not gone after `patience` seconds.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        reports, pipe = os.pipe()
        loop.add_reader(reports, self._count_reports, reports)
        try:
            keepers = [asyncio.create_task(self._keep(pipe)) for _ in range(self._count)]
            await self._stop.wait()
            self._signal(signal.SIGTERM)
            await asyncio.wait(keepers, timeout=patience)
            self._signal(signal.SIGKILL)
            await asyncio.gather(*keepers)
        finally:
            loop.remove_reader(reports)
            os.close(reports)
            os.close(pipe)
        return self._code

    def _count_reports(self, reports: int) -> None:
        before = self._ready
        self._ready += len(os.read(reports, 1024))
        if before < self._count <= self._ready:
            self._announce()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._alive:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, pipe: int) -> None:
        """Run one worker, and another one in its place, until the crew stops."""
        delay = BACKOFF[0]
        try:
            while not self._stop.is_set():
                born = time.monotonic()
                code = await self._live(pipe)
                if self._stop.is_set():
                    return
                if self._ready < self._count:  # it never served: another try would end the same
                    self._code = abs(code)
                    return
                delay = BACKOFF[0] if time.monotonic() - born > HEALTHY else delay
                log.error("a worker ended with code %d; starting another in %.1f s", code, delay)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay)
                delay = min(2 * delay, BACKOFF[1])
        finally:
            self._stop.set()

    async def _live(self, pipe: int) -> int:
        post = Post(os.getpid(), self._port, pipe)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *sys.orig_argv[1:],
            env={**self._env, VARIABLE: " ".join(map(str, post))},
            pass_fds=(pipe,),
        )
        self._alive.add(process)
        if self._stop.is_set():
            self._signal(signal.SIGTERM)
        try:
            return await process.wait()
        finally:
            self._alive.discard(process)
