"""The promises of docs/reliability.md in figures: storms, rolling restarts, lost nodes, a lost Redis."""

import asyncio
import signal
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import pairwise

import redis.exceptions

from bench.stage import Stage, percentile, spread
from tests.clients import start
from tests.faults.readers import Reader
from tests.processes import Process, demo_text

VIEWERS = 2000
RESTARTS = 20
LEASE = 1.0


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it waits for other processes
        await asyncio.sleep(0.02)


async def storm(stage: Stage) -> tuple[str, bool]:
    """2,000 viewers whose node is killed come to another one."""
    doomed, other = await stage.make(), stage.nodes[1]
    sids = [
        await start(stage.http, other, model="demo", prompt=f"s{n}", rate=3, tokens=60) for n in range(20)
    ]
    here: list[Process] = [doomed]
    readers = [Reader(sids[n % 20], ("sse", "ws", "ndjson")[n % 3]) for n in range(VIEWERS)]
    reading = [asyncio.create_task(r.read(stage.http, lambda: here[0].url(""))) for r in readers]
    await _until(lambda: all(reader.events for reader in readers))
    here[0] = other
    doomed.signal(signal.SIGKILL)
    await asyncio.gather(*reading)
    waits = [reader.waits[-1] * 1000 for reader in readers]
    whole = await asyncio.gather(*(_whole(reader, f"s{n % 20}", 60) for n, reader in enumerate(readers)))
    text = f"first byte after the loss {spread(waits)}; {sum(whole)} of {VIEWERS} whole"
    return text, percentile(waits, 0.99) <= 2000 and all(whole)


async def _whole(reader: Reader, prompt: str, tokens: int) -> bool:
    seqs = [int(event["id"].partition("-")[2]) for event in reader.events]
    said = "".join(event["content"] for event in reader.events if event["type"] == "content")
    return seqs == list(range(1, tokens + 2)) and said == await demo_text(prompt, tokens)


async def rolling(stage: Stage) -> tuple[str, bool]:
    """20 restarts, one node of three after the other, under load."""
    flags = {"drain": 3, "lease": 2}
    nodes = [await stage.make(**flags) for _ in range(3)]
    readers: list[Reader] = []
    over = asyncio.Event()

    async def load(place: int) -> None:
        while not over.is_set():
            body = {"model": "demo", "prompt": "r", "rate": 60, "tokens": 80}
            place = (place + 1) % 3
            with suppress(OSError):
                async with stage.http.post(nodes[place].url("/v1/sessions"), json=body) as response:
                    if response.status != 201:
                        continue
                    sid = (await response.json())["id"]
                reader = Reader(sid, ("sse", "ws", "ndjson")[place])
                readers.append(reader)
                await reader.read(stage.http, lambda at=(place + 1) % 3: nodes[at].url(""))

    loads = [asyncio.create_task(load(place)) for place in range(9)]
    codes = []
    for turn in range(RESTARTS):
        await asyncio.sleep(0.5)
        leaving, nodes[turn % 3] = nodes[turn % 3], await stage.make(**flags)
        leaving.signal(signal.SIGTERM)
        codes.append(await leaving.process.wait())
    over.set()
    await asyncio.gather(*loads)
    whole = sum(await asyncio.gather(*(_whole(reader, "r", 80) for reader in readers)))
    resets = sum("reset" in reader.notices for reader in readers)
    again = sum(len(reader.waits) > 1 for reader in readers)
    text = (
        f"{RESTARTS} restarts, {len(readers)} sessions, {whole} whole, {again} reconnected, "
        f"{resets} resets, exit codes {set(codes)}"
    )
    return text, whole == len(readers) and not resets and set(codes) == {0}


async def failover(stage: Stage) -> tuple[str, bool]:
    """A producer's node is killed, 10 times: until a viewer elsewhere has the typed end."""
    took = []
    for _ in range(10):
        doomed = await stage.make(lease=LEASE)
        sid = await start(stage.http, doomed, model="demo", prompt="f", rate=50, tokens=5000)
        reader = Reader(sid)
        reading = asyncio.create_task(reader.read(stage.http, lambda: stage.nodes[0].url("")))
        await _until(lambda r=reader: len(r.events) >= 20)
        killed = time.monotonic()
        doomed.signal(signal.SIGKILL)
        events = await reading
        assert events[-1]["code"] == "producer_lost"
        took.append((time.monotonic() - killed) * 1000)
    return f"lease {LEASE:g} s, typed end after {spread(took)}", max(took) <= (LEASE + 0.5) * 1000


async def healed(stage: Stage) -> tuple[str, bool]:
    """A Redis that keeps nothing is killed under 50 live sessions and comes back, empty."""
    node, other = await stage.make(lease=10, linger=5), await stage.make()
    sids = [
        await start(stage.http, node, model="demo", prompt=f"h{n}", rate=30, tokens=300)
        for n in range(50)
    ]
    at: dict[str, float] = {}
    back = [float("inf")]

    def heard(event: dict) -> None:
        if time.monotonic() > back[0]:
            at.setdefault(event["sid"], time.monotonic())

    readers = [Reader(sid, "sse", lambda event, sid=sid: heard(event | {"sid": sid})) for sid in sids]
    reading = [asyncio.create_task(r.read(stage.http, lambda: other.url(""))) for r in readers]
    await _until(lambda: all(len(reader.events) > 30 for reader in readers))
    client = stage.redis.client()
    lost = sum(client.xlen(f"tw:{{{sid}}}:l") for sid in sids)
    stage.redis.kill()
    await asyncio.sleep(0.5)
    await asyncio.to_thread(stage.redis.start)
    back[0] = time.monotonic()
    await asyncio.gather(*reading)
    took = [(at[sid] - back[0]) * 1000 for sid in sids]
    whole = sum(await asyncio.gather(*(_whole(r, f"h{n}", 300) for n, r in enumerate(readers))))
    with suppress(redis.exceptions.RedisError):
        client.close()
    text = f"lost_acked={lost} entries; a next event after {spread(took)}; {whole} of 50 whole"
    return text, max(took) <= 1000 and whole == 50


async def deaf(stage: Stage) -> tuple[str, bool]:
    """What 24 readers that never read do to the one that does."""
    node = await stage.make(send_timeout=30)
    long = await start(stage.http, node, model="demo", prompt="d", rate=0, tokens=40_000)
    await Reader(long).read(stage.http, lambda: node.url(""))
    quiet = await _gaps(stage, node)
    with ExitStack() as sockets:
        for _ in range(24):
            client = sockets.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", node.port))
            client.sendall(f"GET /v1/sessions/{long}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        loud = await _gaps(stage, node)
    text = f"p99 of the gaps between tokens: {quiet:.1f} ms without, {loud:.1f} ms with them"
    return text, loud <= 1.2 * quiet


async def _gaps(stage: Stage, node: Process) -> float:
    """Return the 99th percentile of a live session's gaps in ms, the median of three sessions."""
    found = []
    for _ in range(3):
        sid = await start(stage.http, node, model="demo", prompt="g", rate=100, tokens=400)
        at: list[float] = []
        reader = Reader(sid, "sse", lambda event, at=at: at.append(time.monotonic()))
        await reader.read(stage.http, lambda: node.url(""))
        found.append(percentile([(b - a) * 1000 for a, b in pairwise(at)], 0.99))
    return statistics.median(found)
