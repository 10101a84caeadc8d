"""`make figures`: the core's promises in figures, against real processes.

A model server, a Redis server and two nodes run as processes of their own; this one is the clients. It
prints a line a promise and exits 1 if one is not kept.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from aiohttp import ClientTimeout

from bench import harm
from bench.stage import Stage, percentile, spread
from tests.clients import Socket, collect, sse, start, text_of, ws
from tests.fake_upstream import expected_text
from tests.processes import Process, serve, spawn_upstream
from tests.redis_server import RedisServer, binaries

SWITCH = 0.2


async def _visit(stream, until: float) -> list:
    """Read a stream until a moment, or to its end."""
    events = []
    try:
        async with asyncio.timeout_at(until):
            async for item in stream:
                if "facts" not in item:
                    events.append(item)
    except TimeoutError:
        pass
    finally:
        await stream.aclose()
    return events


async def _wander(stage: Stage, sid: str, first: int) -> list:
    """Read a session, changing transport and node every 200 ms."""
    loop, events, turn = asyncio.get_running_loop(), [], first
    while not events or events[-1]["type"] != "done":
        reader, node = (sse, ws)[turn % 2], stage.nodes[turn // 2 % 2]
        after = events[-1]["id"] if events else None
        events += await _visit(reader(stage.http, node, sid, after), loop.time() + SWITCH)
        turn += 1
    return events


async def wanderers(stage: Stage) -> tuple[str, bool]:
    """100 sessions at 100 tokens/s, each read by two clients that switch every 200 ms."""
    tokens, names = 500, [f"w{n}" for n in range(100)]
    sids = [
        await start(stage.http, stage.nodes[n % 2], model="m", seed=name, tokens=tokens, rate=100)
        for n, name in enumerate(names)
    ]
    walks = [_wander(stage, sid, first) for sid in sids for first in (0, 1)]
    whole = 0
    for place, events in enumerate(await asyncio.gather(*walks)):
        seqs = [int(event["id"].split("-")[1]) for event in events]
        good = seqs == list(range(1, tokens + 2))
        whole += good and text_of(events) == expected_text(names[place // 2], tokens)
    return f"{whole} of {len(walks)} walks byte-identical, {tokens} tokens each", whole == len(walks)


async def pauses(stage: Stage) -> tuple[str, bool]:
    """Pause in-band, 200 times; what comes after the acknowledgement is past the gate."""
    delays, past = [], 0
    for turn in range(200):
        node = stage.nodes[turn % 2]
        sid = await start(stage.http, stage.nodes[0], model="m", seed="p", tokens=2000, rate=500)
        async with stage.http.ws_connect(node.url(f"/v1/sessions/{sid}/ws")) as connection:
            socket = Socket(connection)
            while len(socket.events()) < 5:
                await socket.next()
            asked = time.perf_counter()
            reply = await socket.ask("pause", session=sid)
            delays.append((time.perf_counter() - asked) * 1000)
            at = len(socket.events())
            past += any(int(e["id"].split("-")[1]) > reply["gate"] for e in socket.events())
            await socket.ask("ping_after_pause", session=sid)  # unknown: a round trip, no more
            past += len(socket.events()) - at
            await socket.ask("abort", session=sid)
    return f"{spread(delays)}, {past} tokens past the gate", percentile(delays, 0.99) <= 20 and not past


async def aborts(stage: Stage) -> tuple[str, bool]:
    """Abort through the other node, 200 times, by the log's final event and the model server's word."""
    closed, upstream, confirmed = [], [], 0
    for turn in range(200):
        seed = f"a{turn}"
        sid = await start(stage.http, stage.nodes[0], model="m", seed=seed, tokens=20_000, rate=100)
        reading = asyncio.create_task(_final(stage, sid))
        await collect(sse(stage.http, stage.nodes[1], sid), count=2)
        asked = time.monotonic()
        async with stage.http.post(stage.nodes[1].url(f"/v1/sessions/{sid}/abort")) as response:
            confirmed += (await response.json())["upstream_closed"]
        closed.append((await reading - asked) * 1000)
        async with stage.http.get(f"{stage.upstream}/stats") as response:
            ended = {s["seed"]: s["closed_at"] for s in (await response.json())["closed"]}
        upstream.append((ended[seed] - asked) * 1000)
    text = f"log closed {spread(closed)}; upstream closed {spread(upstream)}; {confirmed} confirmed"
    good = percentile(closed, 0.99) <= 10 and percentile(upstream, 0.99) <= 250
    return text, good and confirmed == 200


async def _final(stage: Stage, sid: str) -> float:
    async for item in sse(stage.http, stage.nodes[1], sid):
        if item["type"] == "aborted":
            return time.monotonic()
    raise AssertionError("no final event")


async def latency(stage: Stage) -> tuple[str, bool]:
    """Added latency of a token, unloaded: through a node, and directly, in turn."""
    direct, through = [], []
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    shape = {"tokens": 200, "rate": 100}
    for turn in range(5):
        seed = {"seed": f"l{turn}", "stamp": True}
        url = f"{stage.upstream}/v1/chat/completions"
        direct += await _delays(stage, url, body | shape | seed)
        node = stage.nodes[0].url("/v1/sessions?stream=sse")
        through += await _delays(stage, node, body | shape | seed)
    added = statistics.median(through) - statistics.median(direct)
    text = f"added p50 {added:.3f} ms (through: {spread(through)}; direct: {spread(direct)})"
    return text, added <= 1.0


async def _delays(stage: Stage, url: str, body: dict) -> list[float]:
    """Read a stream whose tokens carry their send time; return how old each is, in ms."""
    delays = []
    async with stage.http.post(url, json=body) as response:
        async for line in response.content:
            now = time.monotonic_ns()
            if b'"content":"@' in line:
                sent = int(line.split(b'"content":"@')[1].split(b"@")[0])
                delays.append((now - sent) / 1e6)
    return delays[10:]


MEASUREMENTS: dict[str, Callable[[Stage], Awaitable[tuple[str, bool]]]] = {
    "wander": wanderers,
    "pause": pauses,
    "abort": aborts,
    "latency": latency,
    "storm": harm.storm,
    "rolling": harm.rolling,
    "failover": harm.failover,
    "healed": harm.healed,
    "deaf": harm.deaf,
}


async def _measure(names: list[str], folder: Path) -> bool:
    redis = RedisServer(binaries()[0], folder)
    model, upstream = await spawn_upstream()
    nodes = [await serve(redis.url, upstream=f"{upstream}/v1", linger=5) for _ in range(2)]
    connector = aiohttp.TCPConnector(limit=0)
    kept = True

    async def make(**flags: object) -> Process:
        nodes.append(await serve(redis.url, log_level="error", **flags))
        return nodes[-1]

    try:
        async with aiohttp.ClientSession(connector=connector, timeout=ClientTimeout(120)) as http:
            for name in names:
                text, good = await MEASUREMENTS[name](Stage(http, nodes[:2], upstream, redis, make))
                kept = kept and good
                print(f"{name}: {'kept' if good else 'NOT KEPT'}: {text}", flush=True)
    finally:
        for node in nodes:
            await node.end()
        model.kill()
        await model.wait()
        redis.kill()
    return kept


def main() -> int:
    """Run the measurements that are named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=[*MEASUREMENTS, []])
    names = parser.parse_args().names or list(MEASUREMENTS)
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(_measure(names, Path(folder))) else 1


if __name__ == "__main__":
    sys.exit(main())
