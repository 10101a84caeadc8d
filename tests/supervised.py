"""A server that `run.py` started, with its children: a crew of workers, a Valkey of its own."""

import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from typing import IO

import psutil
import pytest

from tests.processes import ROOT
from tests.waiting import HANG

BANNER = re.compile(r"tokenwire: (http://127\.0\.0\.1:\d+) \(redis: (.+), model: demo\)\n")


def alive(process: psutil.Process) -> bool:
    """A process that nobody has reaped, as in a container without an init, is not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Supervised:
    """It serves at `url`, and keeps its sessions in `redis`."""

    def __init__(self, *command: str, env: dict[str, str], errors: IO[bytes] | int) -> None:
        self.process = psutil.Popen(
            [sys.executable, *command], cwd=ROOT, env=env,
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        line = self.process.stdout.readline()
        found = BANNER.fullmatch(line)
        assert found, line + self.said()
        self.url, self.redis = found.groups()

    def said(self) -> str:
        """Return what it complained of when it did not start."""
        return str(self.process.communicate()[1])

    def children(self, valkey: bool = False) -> set[psutil.Process]:
        """Return the workers, or the Valkey."""
        found = set()
        for child in self.process.children():
            with suppress(psutil.NoSuchProcess):  # it may end between two questions
                if alive(child) and (child.name() == "valkey-server") == valkey:
                    found.add(child)
        return found

    def get(self, path: str = "/", base: str | None = None) -> str:
        with urllib.request.urlopen(f"{base or self.url}{path}", timeout=HANG) as answer:
            return str(answer.read().decode())

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str | None]:
        """Return its exit code, and what it complained of if that was not written elsewhere."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=HANG)
        return self.process.returncode, errors

    def kill(self) -> None:
        """Make an end of it, if it has not come to one."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()


def started(request: pytest.FixtureRequest, server: Supervised) -> Supervised:
    """Return a server that does not outlive its test."""
    request.addfinalizer(server.kill)
    return server
