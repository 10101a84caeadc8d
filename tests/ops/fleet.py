"""Three nodes of two workers each behind nginx, and what befalls them while clients read."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.ops.nginx import Nginx
from tests.processes import ROOT, Process, serve, spawn_upstream

NODES, WORKERS = 3, 2
PATIENCE = 60.0
LEASE, DRAIN = 1.0, 1.0
NEW = b"<!-- the new version -->"
MODELS = """
[models.goes_on]
base_url = "{upstream}/v1"
model = "m"
takeover = "continue"
[models.ends]
base_url = "{upstream}/v1"
model = "m"
[models.demo]
upstream = "demo"
takeover = "continue"
"""
"""Named by what becomes of an answer whose worker dies; the demo's goes on, too."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


class Fleet:
    """The nodes, nginx in front, and the model server behind.

    An answer lasts longer than a node waits for it (`DRAIN`): it has to go on at another one.
    """

    def __init__(self, folder: Path, redis_url: str, upstream: str) -> None:
        self.upstream = upstream
        self.nodes: list[Process] = []
        self._folder, self._redis = folder, redis_url
        self._config = folder / "tokenwire.toml"
        self._config.write_text(MODELS.format(upstream=upstream))
        self._nginx: Nginx | None = None

    async def start(self) -> None:
        """Start all nodes, and nginx."""
        self.nodes += await asyncio.gather(*(self._serve(ROOT, 0) for _ in range(NODES)))
        self._nginx = Nginx(self._folder, [node.port for node in self.nodes], {})

    @property
    def url(self) -> str:
        """Where clients ask."""
        assert self._nginx is not None
        return f"http://127.0.0.1:{self._nginx.port}"

    async def end(self) -> None:
        """Stop all."""
        if self._nginx is not None:
            self._nginx.end()
        for node in self.nodes:
            await node.end()

    async def _serve(self, tree: Path, port: int) -> Process:
        return await serve(
            self._redis, program=(str(tree / "run.py"),), port=port, config=self._config, workers=WORKERS,
            lease=LEASE, drain=DRAIN, linger=1, max_requests=1_000_000, log_level="error",
        )  # fmt: skip

    async def kill(self) -> None:
        """Kill one worker of each node, then the other: whoever produces or delivers dies once."""
        for doomed in zip(*[sorted(serving(node)) for node in self.nodes], strict=True):
            for pid in doomed:
                os.kill(pid, signal.SIGKILL)
            await until(lambda gone=set(doomed): all(_whole(node, gone) for node in self.nodes))

    async def reload(self) -> None:
        """Have every node replace its workers, one by one."""
        old = [serving(node) for node in self.nodes]
        for node in self.nodes:
            node.signal(signal.SIGHUP)
        await until(lambda: all(map(_whole, self.nodes, old)))

    async def reload_nginx(self) -> None:
        """Have nginx read its configuration anew."""
        assert self._nginx is not None
        await asyncio.to_thread(self._nginx.reload)

    async def upgrade(self) -> None:
        """End one node after the other, and start it from the code of a new version."""
        tree = self._folder / "new"
        for name in ("server", "static"):
            shutil.copytree(ROOT / name, tree / name)
        shutil.copy(ROOT / "run.py", tree)
        with (tree / "static" / "index.html").open("ab") as page:
            page.write(NEW)
        for place, node in enumerate(self.nodes):
            node.signal(signal.SIGTERM)
            assert await node.process.wait() == 0
            self.nodes[place] = await self._serve(tree, node.port)


def serving(node: Process) -> set[int]:
    """Return the pids of a node's workers that accept connections."""
    found = set()
    for child in psutil.Process(node.process.pid).children():
        try:
            sockets = child.net_connections("tcp4")
        except psutil.Error:
            continue  # it has just died
        if any(s.status == psutil.CONN_LISTEN and s.laddr.port == node.port for s in sockets):
            found.add(child.pid)
    return found


def _whole(node: Process, gone: set[int]) -> bool:
    """Say whether a node has all its workers, and these are not among them any more."""
    alive = {child.pid for child in psutil.Process(node.process.pid).children()}
    return not alive & gone and len(serving(node)) == WORKERS


EVENTS = {
    "kill": Fleet.kill,
    "reload": Fleet.reload,
    "reload_nginx": Fleet.reload_nginx,
    "upgrade": Fleet.upgrade,
}


@asynccontextmanager
async def fleet(folder: Path, redis_url: str) -> AsyncIterator[Fleet]:
    """Run a fleet, and a model server of its own."""
    process, upstream = await spawn_upstream()
    made = Fleet(folder, redis_url, upstream)
    try:
        await made.start()
        yield made
    finally:
        await made.end()
        process.kill()
        await process.wait()
