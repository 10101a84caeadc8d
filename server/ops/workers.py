"""Several processes on one port: a parent that starts them, replaces them and ends with them.

The parent serves nothing. It owns the private Valkey, if there is one, holds the port, and runs
its own command once more for each worker, with that worker's `Post` in the environment. SIGHUP
replaces the workers one after the other, each when its successor serves, so that new code and new
settings are taken on without a moment in which nobody answers.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Self

from server.ops.restarts import Restarts

VARIABLE = "_TOKENWIRE_WORKER"
PR_SET_PDEATHSIG = 1
AGAIN = 0.1  # seconds before a crashed worker is replaced

log = logging.getLogger(__name__)


class Post(NamedTuple):
    """What a worker is told: its parent's pid, its port, the pipe to report on, its place in the crew."""

    parent: int
    port: int
    pipe: int
    place: int

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
        os.write(self.pipe, b"%d\n" % os.getpid())
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
        self._port, self._env, self._announce = port, env, announce
        self._posts: list[Process | None] = [None] * count
        self._alive: dict[int, Process] = {}
        self._serving: dict[int, asyncio.Event] = {}
        self._complete = False
        self._code = 0
        self._patience = 0.0
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()

    async def run(self, patience: float) -> int:
        """Keep the workers running until SIGTERM or SIGINT; return the exit code.

        They get SIGTERM then, and SIGKILL if they are not gone after `patience` seconds. A successor has
        as long to begin to serve.
        """
        loop = asyncio.get_running_loop()
        self._patience = patience
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        # A terminal that is closed sends the same signal as an operator who wants a reload.
        hangup = self._stop if sys.stdin and sys.stdin.isatty() else self._reload
        loop.add_signal_handler(signal.SIGHUP, hangup.set)
        reports, pipe = os.pipe()
        loop.add_reader(reports, self._hear, reports)
        reloading = asyncio.create_task(self._reload_for_ever(pipe))
        try:
            keepers = [asyncio.create_task(self._keep(place, pipe)) for place in range(len(self._posts))]
            await self._stop.wait()
            reloading.cancel()
            self._signal(signal.SIGTERM)
            await asyncio.wait(keepers, timeout=patience)
            self._signal(signal.SIGKILL)
            await asyncio.gather(*keepers)
            await asyncio.gather(*(process.wait() for process in self._alive.values()))
        finally:
            loop.remove_reader(reports)
            os.close(reports)
            os.close(pipe)
        return self._code

    def _hear(self, reports: int) -> None:
        for pid in map(int, os.read(reports, 4096).split()):
            if pid in self._serving:
                self._serving[pid].set()
        posted = [process for process in self._posts if process is not None]
        serving = sum(map(self._serves, posted))
        if not self._complete and serving == len(self._posts):
            self._complete = True
            self._announce()

    def _serves(self, process: Process) -> bool:
        return process.returncode is None and self._serving[process.pid].is_set()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._alive.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, place: int, pipe: int) -> None:
        """Run one worker, and another one in its place, until the crew stops."""
        restarts = Restarts(AGAIN)
        try:
            while not self._stop.is_set():
                born = time.monotonic()
                code = await self._live(place, pipe)
                if self._stop.is_set():
                    return
                if not self._complete:  # it never served: another try would end the same
                    self._code = abs(code)
                    return
                delay = restarts.wait(time.monotonic() - born)
                log.error("a worker ended with code %d; starting another in %.1f s", code, delay)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay)
        finally:
            self._stop.set()

    async def _live(self, place: int, pipe: int) -> int:
        """Start a worker; return the exit code of whoever has its place in the end."""
        process: Process | None = await self._start(place, pipe)
        self._posts[place] = process
        code = 0
        while process is not None:
            code = await process.wait()
            successor = self._posts[place]
            process = successor if successor is not process else None
        self._posts[place] = None
        return code

    async def _start(self, place: int, pipe: int) -> Process:
        post = Post(os.getpid(), self._port, pipe, place)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *sys.orig_argv[1:],
            env={**self._env, VARIABLE: " ".join(map(str, post))},
            pass_fds=(pipe,),
        )
        self._alive[process.pid] = process
        self._serving[process.pid] = asyncio.Event()
        ended = asyncio.create_task(process.wait())
        ended.add_done_callback(lambda _: self._bury(process.pid))
        if self._stop.is_set():
            self._signal(signal.SIGTERM)
        return process

    def _bury(self, pid: int) -> None:
        del self._alive[pid]
        self._serving.pop(pid).set()

    async def _reload_for_ever(self, pipe: int) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            for place, old in enumerate(self._posts):
                if old is not None and not await self._replace(place, old, pipe):
                    log.error("a new worker does not serve; the others stay as they are")
                    break
            else:
                log.warning("reloaded: %d workers replaced", len(self._posts))

    async def _replace(self, place: int, old: Process, pipe: int) -> bool:
        """Start a successor, and let `old` go once it serves; say whether it does."""
        successor = await self._start(place, pipe)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._serving[successor.pid].wait()
        if not self._serves(successor):
            with suppress(ProcessLookupError):
                successor.kill()
            return False
        if self._posts[place] is not old:  # it died meanwhile, and has been replaced
            successor.terminate()
            return True
        self._posts[place] = successor
        with suppress(ProcessLookupError):
            old.send_signal(signal.SIGHUP)  # leave, and let others take the port's connections
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await old.wait()
        with suppress(ProcessLookupError):
            old.kill()
        return True
