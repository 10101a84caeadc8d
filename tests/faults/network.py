"""Networks that fail: a cable that can be pulled without a sign, a proxy that leads elsewhere."""

import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

from tests.chaos.proxy import Proxy


class Cable:
    """A network namespace and the one cable to it. Needs root, Linux and `ip`; else `OSError`."""

    HERE, THERE = "10.213.77.1", "10.213.77.2"

    def __init__(self) -> None:
        self.name = f"tw{os.getpid()}"
        self.prefix = ("ip", "netns", "exec", self.name)

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise OSError("no network namespaces without root and `ip`")
        here, there = f"{self.name}a", f"{self.name}b"
        _run("ip", "netns", "add", self.name)
        try:
            _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
            _run("ip", "addr", "add", f"{self.HERE}/30", "dev", here)
            _run("ip", "link", "set", here, "up")
            _run(*self.prefix, "ip", "addr", "add", f"{self.THERE}/30", "dev", there)
            _run(*self.prefix, "ip", "link", "set", there, "up")
        except OSError:
            self._remove()
            raise
        return self

    def pull(self) -> None:
        """Let every packet vanish from now on: no end, no error, no answer."""
        _run(*self.prefix, "ip", "addr", "flush", "dev", f"{self.name}b")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        _run("ip", "netns", "del", self.name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


class Switch(Proxy):
    """A proxy that can be led to another Redis, as after a failover."""

    def lead_to(self, target: str) -> None:
        """Break every connection off; the next ones go to `target`."""
        self._target = target
        self.cut()
