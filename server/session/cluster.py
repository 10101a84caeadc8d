"""The masters of a Redis Cluster: a pipeline to each, and each job to the one that serves its slot.

Nothing is sent again in silence. A server that sends elsewhere refuses, which is a doubt like any
other to whoever asked; by the time it asks again, the map is right.
"""

import asyncio
from collections.abc import Callable, Sequence

from redis.exceptions import AskError, ClusterDownError, MovedError

from server.errors import StoreUnavailable
from server.session.connections import Address
from server.session.jobs import Call, Job, nobody
from server.session.link import Command, Reply
from server.session.pipeline import Pipeline
from server.session.slots import Slots

_ASKING: Command = ("ASKING",)
_SHARDED = {"PUBLISH": "SPUBLISH"}


class Cluster:
    """Carries jobs to the masters of a cluster; `open` makes the pipeline to one."""

    def __init__(self, slots: Slots, open: Callable[[Address], Pipeline]) -> None:
        self.reconnected: Callable[[], None] = nobody
        self._loop = asyncio.get_running_loop()
        self._slots = slots
        self._open = open
        self._pipelines: dict[Address, Pipeline] = {}
        self._asked: dict[str, Address] = {}
        self._changed_at = float("-inf")
        self._closing: set[asyncio.Task[None]] = set()
        slots.changed.append(self._rearrange)

    def submit(self, job: Job, urgent: bool = False) -> None:
        """Queue a job for the next flight to its master; an urgent one does not wait for company."""
        asked = self._asked.get(job.key)
        address = asked or self._slots.owner(job.key)
        if address is None:
            self._slots.doubt()
            self._loop.call_soon(job.lost)
        else:
            self._pipeline(address).submit(_Sent(job, address, self, asking=asked is not None), urgent)

    async def call(self, key: str, *commands: Command) -> Sequence[Reply]:
        """Send commands and return their replies; raise `StoreUnavailable` if they got lost."""
        job = Call(key, commands)
        self.submit(job)
        return await job.replies

    async def call_all(self, command: Command) -> Sequence[Reply]:
        """Send a command to every master; return the replies; raise `StoreUnavailable` if none."""
        calls = [self._pipeline(master).call_all(command) for master in self._slots.masters]
        told = await asyncio.gather(*calls, return_exceptions=True)
        if answers := [reply for replies in told if isinstance(replies, Sequence) for reply in replies]:
            return answers
        raise StoreUnavailable()

    def down_for(self, key: str | None = None) -> float:
        """Return the seconds since the master of `key` (or any) was last reached; 0 while it can be."""
        owner = self._slots.owner(key) if key is not None else None
        wanted = [owner] if owner is not None else list(self._pipelines)
        return min((self._pipelines[a].down_for() for a in wanted if a in self._pipelines), default=0.0)

    def back_for(self, key: str) -> float:
        """Return the seconds since that master came back, or another took its place."""
        owner = self._slots.owner(key)
        back = self._pipelines[owner].back_for(key) if owner in self._pipelines else float("inf")
        return min(back, self._loop.time() - self._changed_at)

    async def aclose(self) -> None:
        """Stop, and fail what waits."""
        await asyncio.gather(*(pipeline.aclose() for pipeline in self._pipelines.values()))
        await asyncio.gather(*self._closing)

    def refused(self, key: str, address: Address, error: Exception) -> None:
        """Learn from a refusal where a key is."""
        if isinstance(error, MovedError):
            self._asked.pop(key, None)
            self._slots.moved(error.slot_id, _named(error, address))
        elif isinstance(error, AskError):
            self._asked[key] = _named(error, address)
        elif isinstance(error, ClusterDownError):
            self._slots.doubt()

    def lost(self) -> None:
        """Learn that a master cannot be reached."""
        self._slots.doubt()

    def _pipeline(self, address: Address) -> Pipeline:
        if address not in self._pipelines:
            pipeline = self._pipelines[address] = self._open(address)
            pipeline.reconnected = lambda: self.reconnected()
        return self._pipelines[address]

    def _rearrange(self) -> None:
        """Leave servers that are masters no more; what the new ones hold has to be looked at."""
        self._changed_at = self._loop.time()
        self._asked.clear()
        for address in self._pipelines.keys() - self._slots.masters:
            closing = self._loop.create_task(self._pipelines.pop(address).aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self.reconnected()


def _named(error: AskError, asked: Address) -> Address:
    # A server that does not know its peer's name leaves it out: it is the asked one's.
    return Address(error.host or asked.host, error.port)


class _Sent:
    """A job on its way to one master: it reports where that sends it, and rings within its slot."""

    def __init__(self, job: Job, address: Address, cluster: Cluster, *, asking: bool) -> None:
        self.key = job.key
        self._job = job
        self._address = address
        self._cluster = cluster
        self._asking = asking

    def commands(self) -> Sequence[Command]:
        commands = [(_SHARDED.get(name, name), *rest) for name, *rest in self._job.commands()]
        if not self._asking:
            return commands
        return [command for wanted in commands for command in (_ASKING, wanted)]

    def settle(self, replies: Sequence[Reply]) -> None:
        replies = replies[1::2] if self._asking else replies
        for reply in replies:
            if isinstance(reply, Exception):
                self._cluster.refused(self.key, self._address, reply)
        self._job.settle(replies)

    def lost(self) -> None:
        self._cluster.lost()
        self._job.lost()
