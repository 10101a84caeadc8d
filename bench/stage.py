"""What a measurement plays on, and how figures are said."""

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from tests.clients import Server
from tests.processes import Process
from tests.redis_server import RedisServer


@dataclass(frozen=True)
class Stage:
    """Redis, two nodes, a model server; `make` starts one more node, with flags."""

    http: aiohttp.ClientSession
    nodes: list[Server]
    upstream: str
    redis: RedisServer
    make: Callable[..., Awaitable[Process]]


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def spread(values: list[float]) -> str:
    """Return median, 99th percentile and maximum, in milliseconds."""
    return (
        f"p50 {statistics.median(values):.2f} ms, p99 {percentile(values, 0.99):.2f} ms, "
        f"max {max(values):.2f} ms (n={len(values)})"
    )
