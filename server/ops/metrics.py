"""`/metrics` for Prometheus, on a port of its own: what was counted, read when it is asked for.

No label ever holds an id, a key or anything that a client made up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import accumulate
from typing import Any

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from server.counts import COUNTS, Counts, Histogram, Levels

PREFIX = "tokenwire_"
AGAIN = 0.5
"""Seconds until a port that a leaving worker still holds is asked for again."""

_TOTALS = {
    "sessions_started": ("started", "Sessions started on this node."),
    "events": ("events", "Events committed to logs: tokens, and one final event a session."),
    "entries": ("entries", "Entries committed to logs; events by entries is the size of a batch."),
    "heals": ("heals", "Logs written anew from memory after Redis had lost something."),
    "redis_connections_lost": ("lost_connections", "Connections to Redis that broke."),
}
_BY_WORD = {
    "takeovers": ("takeovers", "how", "Sessions whose producer was gone."),
    "controls": ("controls", "action", "Pauses, resumes and aborts."),
    "writers_over": ("over", "why", "Logs' writers that may write no more; fenced: they were replaced."),
    "viewers_ended": ("left", "why", "Deliveries that the server ended."),
    "errors": ("errors", "code", "Refusals, over HTTP and WebSocket."),
}
_SPREADS = {
    "first_token_seconds": ("first_token", "From a session's start to its upstream's first token."),
    "token_gap_seconds": ("gap", "Between two commits of one session, as its readers see it."),
    "commit_seconds": ("commit", "A flight to Redis and back."),
    "commit_sessions": ("company", "Sessions in one flight to Redis."),
    "upstream_close_seconds": ("upstream_close", "From an abort to the upstream's closed connection."),
    "loop_lag_seconds": ("lag", "How late the event loop is."),
}
_LEVELS = {
    "viewers_behind": ("behind", "Viewers that have not been given all they might have."),
    "viewer_lag_events": ("furthest", "Events that the viewer who is furthest behind lacks."),
    "queue_bytes": ("queue_bytes", "Bytes from upstreams that Redis has not acknowledged."),
    "redis_down_seconds": ("down", "Seconds for which Redis has not been reached."),
    "redis_memory_ratio": ("full", "Part of Redis' maxmemory that is taken; 0 without one."),
    "draining": ("draining", "Whether this node is shutting down."),
}


class _Collector(Collector):
    """Reads the counts of this process and, from `look`, how things stand."""

    def __init__(self, counts: Counts, look: Callable[[], Levels], version: str) -> None:
        self._counts = counts
        self._look = look
        self._version = version

    def collect(self) -> Iterator[Any]:
        """Yield every metric."""
        counts, levels = self._counts, self._look()
        for name, (field, text) in _TOTALS.items():
            yield CounterMetricFamily(PREFIX + name, text, getattr(counts, field))
        for name, (field, label, text) in _BY_WORD.items():
            words = getattr(counts, field)
            yield _family(CounterMetricFamily, name, text, (label,), {(w,): n for w, n in words.items()})
        text = "Sessions ended on this node, by final event and its reason or code."
        yield _family(CounterMetricFamily, "sessions_ended", text, ("status", "why"), counts.ended)
        for name, (field, text) in _SPREADS.items():
            yield _spread(name, text, getattr(counts, field))
        for name, (field, text) in _LEVELS.items():
            yield GaugeMetricFamily(PREFIX + name, text, float(getattr(levels, field)))
        for name, label, text in (
            ("sessions", "state", "Sessions whose producer is here; lingering: ended, kept to heal."),
            ("viewers", "format", "Viewers by wire format."),
        ):
            values = {(word,): n for word, n in getattr(levels, name).items()}
            yield _family(GaugeMetricFamily, name, text, (label,), values)
        yield GaugeMetricFamily(PREFIX + "tasks", "Tasks of the event loop.", len(asyncio.all_tasks()))
        yield _family(GaugeMetricFamily, "info", "The version.", ("version",), {(self._version,): 1})


def _family(kind: Any, name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Any:
    family = kind(PREFIX + name, text, labels=labels)
    for words, value in values.items():
        family.add_metric(words, value)
    return family


def _spread(name: str, text: str, spread: Histogram) -> Any:
    bounds = (*(f"{bound:g}" for bound in spread.bounds), "+Inf")
    buckets = list(zip(bounds, accumulate(spread.counts), strict=True))
    return HistogramMetricFamily(PREFIX + name, text, buckets=buckets, sum_value=spread.total)


def registry(look: Callable[[], Levels], version: str) -> CollectorRegistry:
    """Return all metrics: ours and those of the process."""
    everything = CollectorRegistry()
    everything.register(_Collector(COUNTS, look, version))
    ProcessCollector(registry=everything)
    return everything


def text(everything: CollectorRegistry) -> bytes:
    """Return the metrics as they are now, in Prometheus' text format."""
    return generate_latest(everything)


def application(look: Callable[[], Levels], version: str) -> web.Application:
    """Return an application of one page."""
    everything = registry(look, version)

    async def page(request: web.Request) -> web.Response:
        return web.Response(body=text(everything), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application()
    app.router.add_get("/metrics", page)
    return app


@asynccontextmanager
async def served(
    host: str, port: int, look: Callable[[], Levels], version: str, *, patient: bool
) -> AsyncIterator[None]:
    """Serve the page meanwhile; raise `OSError` if the port is taken, unless `patient`.

    A patient one waits for the port: a worker that takes over from one that still drains.
    """
    runner = web.AppRunner(application(look, version), access_log=None)
    await runner.setup()
    tasks = []
    try:
        if patient:
            tasks.append(asyncio.create_task(_listen_at_last(runner, host, port)))
        else:
            await web.TCPSite(runner, host, port).start()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()


async def _listen_at_last(runner: web.AppRunner, host: str, port: int) -> None:
    while True:
        with suppress(OSError):
            return await web.TCPSite(runner, host, port).start()
        await asyncio.sleep(AGAIN)
