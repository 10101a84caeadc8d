"""Nodes that die, stall, lose an answer, run out of files or of time (N1 and N4 to N9)."""

import asyncio
import os
import resource
import signal
import time
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from tests.clients import becomes, collect, seqs, sse, start, text_of
from tests.fake_upstream import expected_text
from tests.faults.readers import Reader
from tests.processes import demo_text
from tests.waiting import HANG, until

STALL = 3.0
HOUR = 3600


async def test_rolling_all_nodes_under_load_loses_nothing(make_process, http):
    flags = {"drain": 2.5, "lease": 2}
    nodes = [await make_process(**flags) for _ in range(3)]
    readers, over = [], asyncio.Event()

    async def load(place):
        while not over.is_set():
            body = {"prompt": "r", "rate": 100, "tokens": 100}
            async with http.post(nodes[place % 3].url("/v1/sessions"), json=body) as response:
                if response.status == 503:  # it drains: another one
                    place += 1
                    continue
                sid = (await response.json())["id"]
            # Read on the next node, not on the session's own.
            place = (place + 1) % 3
            reader = Reader(sid, ("sse", "ws", "ndjson")[place])
            readers.append((place, reader))
            await reader.read(http, lambda at=place: nodes[at].url(""))

    loads = [asyncio.create_task(load(place)) for place in range(9)]
    for place in range(3):
        fresh = await make_process(**flags)
        # Somebody reads there who is far from the end.
        await until(lambda at=place: any(w == at and 0 < len(r.events) < 20 for w, r in readers))
        leaving, nodes[place] = nodes[place], fresh
        leaving.signal(signal.SIGTERM)
        assert await asyncio.wait_for(leaving.process.wait(), HANG) == 0
    over.set()
    await asyncio.wait_for(asyncio.gather(*loads), HANG)
    whole = await demo_text("r", 100)
    assert len({place for place, reader in readers if len(reader.waits) > 1}) == 3
    for _, reader in readers:
        assert reader.events[-1]["type"] == "done"
        assert text_of(reader.events) == whole
        assert seqs(reader.events) == list(range(1, 102))


async def test_who_opens_a_socket_on_a_node_that_leaves_is_sent_elsewhere_at_once(node, http):
    await start(http, node, prompt="s", rate=20, tokens=200)
    leaving = asyncio.create_task(node.node.drain(HANG))
    await until(lambda: node.node.draining)
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        assert (await ws.receive(HANG / 2)).data == 1012
    assert not leaving.done()
    leaving.cancel()


async def test_a_stalled_node_is_left_by_its_clients_and_loses_nothing(make_process, http):
    flags = {"lease": 3 * STALL, "heartbeat": 0.3}
    stalled, other = await make_process(**flags), await make_process(**flags)
    sid = await start(http, stalled, prompt="s", rate=100, tokens=150)
    patient = Reader(sid)
    waiting = asyncio.create_task(patient.read(http, lambda: stalled.url("")))
    # A client's own watchdog: nothing for three heartbeats, and it goes elsewhere.
    bases = iter([stalled.url("")])
    watchdog = aiohttp.ClientTimeout(total=None, sock_read=0.9)
    async with aiohttp.ClientSession(timeout=watchdog) as impatient:
        reader = Reader(sid)
        reading = asyncio.create_task(reader.read(impatient, lambda: next(bases, other.url(""))))
        await until(lambda: len(reader.events) > 20)
        stalled.signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with http.get(stalled.url("/readyz"), timeout=aiohttp.ClientTimeout(total=0.5)):
                pass
        await until(lambda: len(reader.waits) > 1)
        await asyncio.sleep(began + STALL - time.monotonic())
        stalled.signal(signal.SIGCONT)
        await asyncio.wait_for(asyncio.gather(reading, waiting), HANG)
    assert reader.events == patient.events
    assert text_of(reader.events) == await demo_text("s", 150)
    assert reader.events[-1]["type"] == "done"


async def test_a_node_killed_at_any_moment_has_shown_nothing_that_the_log_lacks(
    make_redis, make_process, make_switch, upstream, http
):
    server = make_redis()
    switch = await make_switch(server)
    flags = {"upstream": f"{upstream.url}/v1", "model": "m"}
    doomed = await make_process(switch.url, **flags)
    other = await make_process(server.url, **flags)
    seeds = [f"k{n}" for n in range(25)]
    sids = [
        await start(http, doomed, seed=seed, tokens=20_000, rate=20 * 1.2**n)
        for n, seed in enumerate(seeds)
    ]
    here = [Reader(sid) for sid in sids]
    there = [Reader(sid) for sid in sids]
    alive = doomed
    at_doomed = [asyncio.create_task(r.read(http, lambda: alive.url(""))) for r in here]
    at_other = [asyncio.create_task(r.read(http, lambda: other.url(""))) for r in there]
    await until(lambda: all(len(reader.events) > 10 for reader in here + there))
    switch.hold(True)
    await asyncio.sleep(0.1)  # the fault: what is sent does not arrive, nor ever will
    doomed.signal(signal.SIGKILL)
    await doomed.process.wait()
    switch.cut()
    switch.hold(False)
    shown, alive = [list(reader.events) for reader in here], other
    await asyncio.wait_for(asyncio.gather(*at_doomed, *at_other), HANG)
    for seed, before, one, two in zip(seeds, shown, here, there, strict=True):
        assert one.events == two.events
        assert one.events[: len(before)] == before
        assert (two.events[-1]["type"], two.events[-1]["code"]) == ("error", "producer_lost")
        assert expected_text(seed, 20_000).startswith(text_of(two.events))
        assert seqs(two.events) == list(range(1, len(two.events) + 1))


async def test_an_append_whose_answer_gets_lost_lands_once(make_process, own_redis, make_switch, http):
    switch = await make_switch(own_redis)
    node = await make_process(switch.url, lease=3)
    sid = await start(http, node, prompt="a", rate=100, tokens=300)
    reader = Reader(sid)
    reading = asyncio.create_task(reader.read(http, lambda: node.url("")))
    client = own_redis.client()

    def landed():
        return int(client.xrevrange(f"tw:{{{sid}}}:l", count=1)[0][0].partition(b"-")[2])

    async def stuck():
        before = landed(), len(reader.events)
        await asyncio.sleep(0.05)
        return before[0] > before[1] and before == (landed(), len(reader.events))

    for _ in range(3):
        seen = len(reader.events)
        await until(lambda seen=seen: len(reader.events) > seen + 10)
        switch.deaf = True
        await until(stuck)  # what has landed is not known to have
        switch.cut()
        switch.deaf = False
    client.close()
    await asyncio.wait_for(reading, HANG)
    assert text_of(reader.events) == await demo_text("a", 300)
    assert seqs(reader.events) == list(range(1, 302))


async def test_without_free_files_the_old_clients_are_served_and_new_ones_refused_at_once(
    make_process, http
):
    node = await make_process()
    sid = await start(http, node, prompt="e", rate=100, tokens=400)
    readers = [Reader(sid, ("sse", "ws", "ndjson")[n % 3]) for n in range(9)]
    readings = [asyncio.create_task(reader.read(http, lambda: node.url(""))) for reader in readers]
    await until(lambda: all(reader.events for reader in readers))
    highest = max(map(int, os.listdir(f"/proc/{node.process.pid}/fd")))
    limits = resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)
    # Room for three more: these are served, the others are told.
    resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (highest + 4, limits[1]))
    newcomers = [Reader(sid) for _ in range(30)]
    tries = await asyncio.gather(*(_first_try(http, node, newcomer) for newcomer in newcomers))
    assert 0 < tries.count("served") < tries.count("refused")
    assert "silent" not in tries
    seen = [len(reader.events) for reader in readers]
    await until(lambda: all(len(r.events) > n for r, n in zip(readers, seen, strict=True)))
    resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, limits)
    late = Reader(sid)
    assert await _first_try(http, node, late) == "served"
    for reader in (*newcomers, late):
        readings.append(asyncio.create_task(reader.read(http, lambda: node.url(""))))
    await asyncio.wait_for(asyncio.gather(*readings), HANG)
    whole = await demo_text("e", 400)
    for reader in (*readers, *newcomers, late):
        assert text_of(reader.events) == whole
        assert seqs(reader.events) == list(range(1, 402))


async def _first_try(http, node, reader):
    """Say whether a client is served, refused, or kept in the dark."""
    connecting = asyncio.create_task(reader.connect(http, node.url("")))
    try:
        await until(lambda: reader.notices or connecting.done())
    except TimeoutError:
        return "silent"
    finally:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
    return "served" if reader.notices else "refused"


async def _jump(http, node, clock, seconds):
    clock.write_text(f"{seconds:+d}\n")

    async def jumped():
        async with http.get(node.url("/healthz")) as response:
            there = parsedate_to_datetime(response.headers["Date"]).timestamp()
        return abs(there - time.time() - seconds) < 60

    await until(jumped)


async def test_a_node_whose_clock_jumps_goes_on_as_if_nothing_had_happened(
    make_process, http, clock, monkeypatch
):
    jumping = await make_process()
    monkeypatch.delenv("LD_PRELOAD")
    other = await make_process()
    for seconds in (HOUR, -HOUR):
        sid = await start(http, jumping, prompt="j", rate=200, tokens=150)
        readers = [Reader(sid) for _ in range(2)]
        readings = [
            asyncio.create_task(reader.read(http, lambda node=node: node.url("")))
            for reader, node in zip(readers, (jumping, other), strict=True)
        ]
        await until(lambda readers=readers: all(reader.events for reader in readers))
        await _jump(http, jumping, clock, seconds)
        await asyncio.wait_for(asyncio.gather(*readings), HANG)
        for reader in readers:
            assert text_of(reader.events) == await demo_text("j", 150)
            assert seqs(reader.events) == list(range(1, 152))


async def test_a_node_with_a_wrong_clock_that_dies_is_replaced_in_time(
    make_process, http, clock, monkeypatch
):
    doomed = await make_process()
    monkeypatch.delenv("LD_PRELOAD")
    other = await make_process()
    await _jump(http, doomed, clock, HOUR)
    sid = await start(http, doomed, rate=100, tokens=5000)
    found = await becomes(http, other, sid, lambda it: it["seq"] >= 80)
    assert found["status"] == "running"
    doomed.signal(signal.SIGKILL)
    # Nobody watches: it is the other node's sweeper that finds it.
    await becomes(http, other, sid, lambda it: it["status"] == "error")
    assert (await collect(sse(http, other, sid)))[-1]["code"] == "producer_lost"


async def test_a_node_with_a_wrong_clock_heals_what_redis_loses_early(
    make_process, redis_server, http, clock
):
    node = await make_process(lease=6)
    await _jump(http, node, clock, -HOUR)
    # A node's first session is looked after at once, when the connection is made.
    await Reader(await start(http, node, tokens=1)).read(http, lambda: node.url(""))
    sid = await start(http, node, prompt="e", rate=100, tokens=150)
    reader = Reader(sid)
    reading = asyncio.create_task(reader.read(http, lambda: node.url("")))
    await until(lambda: len(reader.events) > 20)
    client = redis_server.client()
    client.flushall()  # before its lease was ever renewed
    client.close()
    await asyncio.wait_for(reading, HANG)
    assert text_of(reader.events) == await demo_text("e", 150)
    assert seqs(reader.events) == list(range(1, 152))
