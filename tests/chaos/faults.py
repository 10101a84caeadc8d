"""The faults: each is done to a running cluster, and undone. All are drawn by the dice of the run."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import redis

from tests.chaos.cluster import Cluster, NodeProcess
from tests.chaos.rules import FROZEN, LEASE

Fault = Callable[[Cluster], Awaitable[None]]
HEALING = 1.2
"""Seconds: a renewal, and the log written anew."""


def _node(cluster: Cluster) -> NodeProcess:
    return cluster.dice.choice(cluster.mortal)


async def kill_node(cluster: Cluster) -> None:
    """SIGKILL a node; another one takes its port a moment later."""
    node = _node(cluster)
    node.signal(signal.SIGKILL)
    await node.gone()
    await asyncio.sleep(cluster.dice.uniform(0.0, 1.0))
    await node.start()


async def replace_node(cluster: Cluster) -> None:
    """SIGTERM a node, as a rolling deploy does; the next one takes its port."""
    node = _node(cluster)
    node.signal(signal.SIGTERM)
    await node.gone()
    await node.start()


async def freeze_node(cluster: Cluster) -> None:
    """SIGSTOP a node, for less or more than its leases."""
    node = _node(cluster)
    node.signal(signal.SIGSTOP)
    await asyncio.sleep(cluster.dice.choice((0.3, 1.0, FROZEN)))
    node.signal(signal.SIGCONT)


async def kill_redis(cluster: Cluster) -> None:
    """SIGKILL a Redis that keeps nothing on disk, and start it again, empty."""
    cluster.keep_logs()
    cluster.lost_acked += _acknowledged(cluster)
    cluster.redis.kill()
    await asyncio.sleep(cluster.dice.uniform(0.0, 0.5))
    await asyncio.to_thread(cluster.redis.start)


async def flush_redis(cluster: Cluster) -> None:
    """Empty Redis."""
    cluster.keep_logs()
    cluster.lost_acked += _acknowledged(cluster)
    await commanded("FLUSHALL")(cluster)


def _acknowledged(cluster: Cluster) -> int:
    """Count the entries of logs that are not closed."""
    client = cluster.redis.client()
    count = 0
    for key in client.scan_iter("tw:*:l", count=1000):
        last = client.xrevrange(key, count=1)
        count += client.xlen(key) if last and b"z" not in last[0][1] else 0
    client.close()
    return count


async def freeze_redis(cluster: Cluster) -> None:
    """SIGSTOP Redis for a while."""
    cluster.redis.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(cluster.dice.choice((0.2, 0.8, 2.0)))
    cluster.redis.process.send_signal(signal.SIGCONT)


async def partition(cluster: Cluster) -> None:
    """Let nothing through between one node and Redis."""
    cluster.proxy.hold(True)
    await asyncio.sleep(cluster.dice.choice((0.3, 1.0, FROZEN)))
    if cluster.dice.random() < 0.5:
        cluster.proxy.cut()
    cluster.proxy.hold(False)


async def slow_network(cluster: Cluster) -> None:
    """Put 100 ms between one node and Redis."""
    cluster.proxy.delay = 0.1
    await asyncio.sleep(2.0)
    cluster.proxy.delay = 0.0


async def cut_network(cluster: Cluster) -> None:
    """Break one node's connections to Redis off."""
    cluster.proxy.cut()


def commanded(*commands: str) -> Fault:
    """Return the fault of sending commands to Redis."""

    async def fault(cluster: Cluster) -> None:
        client = cluster.redis.client()
        for command in commands:
            client.execute_command(*command.split())
        client.close()

    return fault


LOSE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local lease = tonumber(redis.call('HGET', KEYS[2], 'lease') or 0)
if lease <= now + ARGV[1] then return 0 end
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
"""
"""Removes entries of a log that a producer still guards; one that has just been killed guards nothing, so
its lease must be fresh."""


def _lose(client: redis.Redis, key: bytes, ids: list[bytes]) -> int:
    fresh = LEASE * 600
    return int(client.eval(LOSE, 2, key, key[:-1] + b"m", fresh, *ids)) if ids else 0


async def cut_tails(cluster: Cluster) -> None:
    """Lose the last entries of each log, as a failover with a lagging replica does."""
    client = cluster.redis.client()
    for key in client.scan_iter("tw:*:l", count=1000):
        last = [id for id, _ in client.xrevrange(key, count=cluster.dice.randint(1, 8))]
        cluster.lost_acked += _lose(client, key, last)
    client.close()


async def make_holes(cluster: Cluster) -> None:
    """Lose one entry of each log."""
    client = cluster.redis.client()
    for key in client.scan_iter("tw:*:l", count=1000):
        if rows := client.xrange(key):
            cluster.lost_acked += _lose(client, key, [cluster.dice.choice(rows)[0]])
    client.close()


async def fill_redis(cluster: Cluster) -> None:
    """Have Redis refuse writes for a while."""
    await commanded("CONFIG SET maxmemory 1mb")(cluster)
    await asyncio.sleep(cluster.dice.uniform(0.3, 1.5))
    await commanded("CONFIG SET maxmemory 0")(cluster)


def then_quiet(fault: Fault) -> Fault:
    """Leave a loss to its producer for a moment: one that dies before it could heal is not promised."""

    async def quiet(cluster: Cluster) -> None:
        await fault(cluster)
        await asyncio.sleep(HEALING)

    return quiet


HARMLESS: dict[str, Fault] = {
    "kill a node": kill_node,
    "replace a node": replace_node,
    "freeze a node": freeze_node,
    "freeze Redis": freeze_redis,
    "partition": partition,
    "slow network": slow_network,
    "cut network": cut_network,
    "kill connections": commanded("CLIENT KILL TYPE normal SKIPME yes"),
    "kill doorbells": commanded("CLIENT KILL TYPE pubsub"),
    "forget scripts": commanded("SCRIPT FLUSH"),
    "pause Redis' clients": commanded("CLIENT PAUSE 700 ALL"),
    "fill Redis": fill_redis,
}
"""Faults in which Redis loses nothing."""

LOSSES: dict[str, Fault] = {
    "kill Redis": then_quiet(kill_redis),
    "flush Redis": then_quiet(flush_redis),
    "cut tails": then_quiet(cut_tails),
    "make holes": then_quiet(make_holes),
}
"""Faults in which Redis loses what it has acknowledged."""

FAULTS = HARMLESS | LOSSES
