"""The machine: processes on cores, their CPU and memory from /proc, ports, versions."""

import os
import platform
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERTZ = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))


class Layout(NamedTuple):
    """Which cores the server, the load generator, the upstream and Redis run on."""

    server: list[int]
    load: list[int]
    upstream: list[int]
    redis: list[int]
    text: str


def _layout() -> Layout:
    if len(CORES) >= 4:
        server, load, upstream, redis = ([core] for core in CORES[:4])
        return Layout(server, load, upstream, redis, "each on a core of its own")
    if len(CORES) >= 2:
        server, rest = CORES[:1], CORES[1:]
        text = "the server alone on one core; load generator, upstream, pump and Redis on the other"
        return Layout(server, rest, rest, rest, text)
    return Layout(CORES, CORES, CORES, CORES, "all on one core: figures are not comparable")


LAYOUT = _layout()


def raise_limits() -> int:
    """Let this process and its children open as many files as the hard limit allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Process:
    """A child of ours on given cores; CPU and memory count all its descendants."""

    def __init__(self, command: Sequence[str], cores: Sequence[int], log: Path, cwd: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )
        self.pid = self._child.pid

    def wait_for(self, port: int, seconds: float = 20) -> None:
        """Return once `port` accepts connections."""
        deadline = time.monotonic() + seconds
        while self._child.poll() is None and time.monotonic() < deadline:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        tail = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"{self._child.args[0]} does not listen: {' '.join(tail)}")

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        return sum(map(_cpu_of, _family(self.pid)))

    def memory(self) -> int:
        """Bytes of memory now, shared pages by halves."""
        return sum(map(_memory_of, _family(self.pid)))

    def stop(self) -> None:
        """End the process and its descendants: politely, and after two seconds for good."""
        family = list(_family(self.pid))
        self._child.terminate()
        try:
            self._child.wait(2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for pid in family[1:]:
            if os.path.exists(f"/proc/{pid}") and os.getsid(pid) == self.pid:
                os.kill(pid, signal.SIGKILL)


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
    except OSError:
        return


def _cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / HERTZ


def _memory_of(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def busy() -> float:
    """Seconds of CPU that the whole machine has used."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / HERTZ


def versions(programs: dict[str, Sequence[str]]) -> dict[str, str]:
    """Return the first line that each program says of its version; "-" if it is not there."""
    said = {}
    for name, command in programs.items():
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said[name] = (done.stdout or done.stderr).strip().splitlines()[0]
        except (OSError, IndexError):
            said[name] = "-"
    return said


def describe() -> dict[str, str]:
    """Say what machine this is."""
    cpu = [
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "CPU": f"{cpu[0] if cpu else platform.machine()}, {len(CORES)} cores",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "placing": LAYOUT.text,
    }
