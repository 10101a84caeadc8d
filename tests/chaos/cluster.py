"""What a run is made of: Redis, nodes behind or beside a proxy, a model server, all real processes."""

import asyncio
import json
import random
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.session.log import Entry
from tests.chaos.proxy import Proxy
from tests.chaos.reading import canonical
from tests.chaos.rules import LEASE
from tests.processes import ROOT, descriptors, free_port, memory, spawn_upstream
from tests.redis_server import RedisServer, binaries

FLAGS = {
    "lease": LEASE, "linger": 10, "drain": 3, "heartbeat": 1, "upstream-stall": 1.5,
    "log-level": "error",
}  # fmt: skip

MODELS = """
[models.goes-on]
base_url = "{upstream}/v1"
takeover = "continue"
[models.begins-anew]
base_url = "{upstream}/v1"
takeover = "restart"
"""


class NodeProcess:
    """A node on a port of its own, which it keeps when it is started again."""

    def __init__(
        self, redis: str, upstream: str, config: Path, mutant: str, more: dict[str, Any]
    ) -> None:
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None
        module = ["-m", "tests.chaos.mutant", mutant] if mutant else ["run.py"]
        flags = [f"--{name}={value}" for name, value in (FLAGS | more).items()]
        self._command = [
            sys.executable, *module, f"--port={self.port}", f"--redis={redis}",
            f"--upstream={upstream}/v1", "--model=m", f"--config={config}",
            f"--metrics-port={self.port + 1}", *flags,
        ]  # fmt: skip

    async def start(self) -> None:
        """Start it, and return once it serves."""
        self.process = await asyncio.create_subprocess_exec(
            *self._command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None
        await self.process.stdout.readline()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def gone(self) -> None:
        """Wait for its end."""
        assert self.process is not None
        await self.process.wait()

    def memory(self) -> int:
        """Return the bytes that it holds."""
        assert self.process is not None
        return memory(self.process.pid)

    def descriptors(self) -> int:
        """Return how many files it has open."""
        assert self.process is not None
        return descriptors(self.process.pid)

    def tasks(self) -> int:
        """Return how many tasks it says that it has."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 1}/metrics", timeout=5) as page:
            (count,) = re.findall(rb"^tokenwire_tasks (\S+)", page.read(), re.M)
        return int(float(count))


class Cluster:
    """Redis without persistence, three nodes, the last of them behind a proxy, and a model server.

    `mortal` are the nodes that may be killed or frozen. A `forgetful` one has logs that expire before the
    end of a run.
    """

    def __init__(self, folder: Path, seed: int, mutant: str = "", **flags: Any) -> None:
        self.folder = folder
        self.dice = random.Random(seed)
        self.redis = RedisServer(binaries()[0], folder, "--enable-debug-command", "local")
        self.proxy = Proxy(str(self.redis.socket))
        self.nodes: list[NodeProcess] = []
        self.mortal = self.nodes
        self.lost_acked = 0
        self.forgetful = "ttl" in flags
        self._mutant = mutant
        self._flags = flags
        self._kept: set[str] = set()
        self._upstream: asyncio.subprocess.Process | None = None
        self._upstream_url = ""
        self.begin(folder)

    def begin(self, folder: Path) -> None:
        """Record in that folder, the `place`, from here on."""
        self.place = folder
        self._file = (folder / "driver.jsonl").open("w", buffering=1)
        self.record("clock", wall=time.time() - time.monotonic())

    def record(self, kind: str, **fields: Any) -> None:
        """Write what happened, with when."""
        self._file.write(json.dumps({"at": time.monotonic(), "kind": kind, **fields}) + "\n")

    async def start(self) -> None:
        """Start everything."""
        self._upstream, self._upstream_url = await spawn_upstream()
        await self.proxy.start()
        config = self.folder / "tokenwire.toml"
        config.write_text(MODELS.format(upstream=self._upstream_url))
        for redis in (self.redis.url, self.redis.url, self.proxy.url):
            node = NodeProcess(redis, self._upstream_url, config, self._mutant, self._flags)
            self.nodes.append(node)
            await node.start()

    async def stop(self) -> None:
        """End everything that was started."""
        for node in self.nodes:
            node.signal(signal.SIGCONT)
            node.signal(signal.SIGKILL)
            await node.gone()
        if self._upstream is not None:
            self._upstream.kill()
            await self._upstream.wait()
        await self.proxy.aclose()
        self.redis.process.send_signal(signal.SIGCONT)
        self.redis.kill()
        self._file.close()

    def held(self, more: int = 0) -> dict[str, int]:
        """Count files and tasks of each node, and `more` of them; channels, keys that stay for ever."""
        held = {}
        for at, node in enumerate(self.nodes):
            held[f"files of node {at}"] = node.descriptors() + more
            held[f"tasks of node {at}"] = node.tasks() + more
        client = self.redis.client()
        held["channels"] = len(client.pubsub_channels("*"))
        held["keys without an end"] = sum(client.ttl(key) == -1 for key in client.scan_iter("*"))
        client.close()
        return held

    def note(self, when: str, held: Mapping[str, int]) -> None:
        """Record what is, or was, held."""
        for what, count in held.items():
            self.record("resources", when=when, what=what, count=count)

    def keep_logs(self) -> None:
        """Record each whole log that is closed, once: Redis is about to lose it, perhaps for good."""
        client = self.redis.client()
        for key in client.scan_iter("tw:*:l", count=1000):
            if (sid := key.decode()[4:-3]) in self._kept:
                continue
            rows = client.xrange(key)
            entries = [_row(id, fields) for id, fields in rows]
            if entries and entries[-1][4] and entries[-1][2] == len(entries):
                self._kept.add(sid)
                self.record("log", sid=sid, entries=entries)
        client.close()

    def read_back(self, sids: list[str]) -> None:
        """Record the log of each session as Redis holds it, and what the model server knows."""
        client = self.redis.client()
        for sid in sids:
            rows = client.xrange(f"tw:{{{sid}}}:l")
            entries = [_row(id, fields) for id, fields in rows] or None
            self.record("log", sid=sid, entries=entries)
        client.close()
        with urllib.request.urlopen(f"{self._upstream_url}/stats", timeout=5) as answer:
            stats = json.load(answer)
        for one in (*stats["closed"], *stats["open"]):
            names = ("seed", "sent", "closed_at", "closed_by_peer")
            self.record("upstream", **{name: one[name] for name in names})


def _row(id: bytes, fields: dict[bytes, bytes]) -> list[Any]:
    entry = Entry.parse(id, [part for pair in fields.items() for part in pair])
    lines = [canonical(json.loads(line)) for line in entry.lines]
    return [entry.epoch, entry.first, entry.ordinal, lines, entry.final]
