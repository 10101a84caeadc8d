"""A Redis that is killed, frozen, full, slow, out of reach, or refuses (R2 to R5, R8 to R10, R13)."""

import asyncio
import signal
import sys
import time
from contextlib import suppress

import pytest
import redis

from server.session.node import CATCH_UP
from tests.chaos.reading import TRANSPORTS, Gone
from tests.clients import seqs, start, text_of
from tests.fake_upstream import expected_text
from tests.faults.looking import ready
from tests.faults.readers import Reader, watched, whole
from tests.processes import ROOT, demo_text
from tests.waiting import HANG, until


@pytest.mark.alone
async def test_a_redis_that_keeps_a_file_is_waited_for_and_what_the_disk_lost_is_healed(
    make_redis, make_process, http, tmp_path
):
    server = make_redis("--appendonly", "yes")
    nodes = [await make_process(server.url, lease=3) for _ in range(2)]
    left = []
    readers, readings = await watched(http, nodes, prompt="w", rate=100, tokens=200)
    client, key = server.client(), f"tw:{{{readers[0].sid}}}:l"
    for disk in (1.0, 0.6):  # what of the file is there after a kill, after a power cut
        seen = len(readers[0].events)
        await until(lambda seen=seen: len(readers[0].events) > seen + 40)
        held = client.xlen(key)
        server.kill()
        (file,) = (tmp_path / "r0" / "appendonlydir").glob("*.incr.aof")
        with file.open("r+b") as aof:
            aof.truncate(int(file.stat().st_size * disk))
        for node in nodes:  # which else may have healed it before it is looked at
            node.signal(signal.SIGSTOP)
        server.start()
        left.append(client.xlen(key) / held)
        for node in nodes:
            node.signal(signal.SIGCONT)
    client.close()
    print(f"left after the kill {left[0]:.0%}, after the power cut {left[1]:.0%}")
    await whole(readers, readings, 200)
    assert left[1] < 0.9 <= left[0]


async def test_a_redis_frozen_for_longer_than_a_lease_does_no_harm(make_redis, make_process, http):
    server = make_redis()
    nodes = [await make_process(server.url, lease=0.5) for _ in range(2)]
    _, readings = await watched(http, nodes, prompt="w", rate=100, tokens=200)
    server.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1.5)  # the fault: three leases
    server.process.send_signal(signal.SIGCONT)
    one, two = await asyncio.wait_for(asyncio.gather(*readings), HANG)
    # Its owner renews first, or is replaced: either is well, but not both.
    assert one == two
    assert seqs(one) == list(range(1, len(one) + 1))
    assert (await demo_text("w", 200)).startswith(text_of(one))
    assert one[-1]["type"] == "done" or one[-1]["code"] == "producer_lost"


async def test_viewers_of_a_node_without_redis_are_told_and_then_sent_elsewhere(
    make_redis, make_process, make_switch, http
):
    server = make_redis()
    switch = await make_switch(server)
    alone = await make_process(switch.url, redis_grace=1, heartbeat=0.2, lease=10)
    other = await make_process(server.url)
    sid = await start(http, other, prompt="w", rate=50, tokens=120)
    readers = [Reader(sid, transport) for transport in TRANSPORTS]
    readings = []
    for reader in readers:
        bases = iter([alone.url("")])
        work = reader.read(http, lambda bases=bases: next(bases, other.url("")))
        readings.append(asyncio.create_task(work))
    await until(lambda: all(len(reader.events) > 10 for reader in readers))
    url = alone.url(f"/v1/sessions/{sid}/events")
    async with asyncio.timeout(HANG), http.get(url) as response:
        switch.hold(True)
        switch.cut()
        cut = time.monotonic()
        data = await response.read()
        took = time.monotonic() - cut
        async with http.get(alone.url("/readyz")) as answer:
            assert answer.status == 503
        async with http.get(url) as again:  # an EventSource gives up for good on any other status
            assert again.status == 200
            assert b"[DONE]" not in await again.read()
    assert b": degraded\n" in data
    assert b"[DONE]" not in data
    assert took > 0.9
    await whole(readers, readings, 120)
    assert [len(reader.waits) for reader in readers] == [2, 2, 2]
    switch.hold(False)
    await until(lambda: ready(http, alone))


async def test_a_node_that_cannot_ask_does_not_say_that_a_cursor_is_ahead(
    make_redis, make_process, make_switch, http
):
    server = make_redis()
    switch = await make_switch(server)
    behind = await make_process(switch.url, lease=10)
    other = await make_process(server.url)
    sid = await start(http, other, prompt="w", rate=50, tokens=200)
    known, ahead = Reader(sid), Reader(sid)
    reading = asyncio.create_task(known.read(http, lambda: behind.url("")))
    await until(lambda: len(known.events) > 10)
    switch.hold(True)
    elsewhere = asyncio.create_task(ahead.read(http, lambda: other.url("")))
    await until(lambda: len(ahead.events) > len(known.events) + 40)
    elsewhere.cancel()
    await asyncio.wait((elsewhere,))
    coming = asyncio.create_task(ahead.read(http, lambda: behind.url("")))
    await asyncio.sleep(CATCH_UP + 0.5)  # the fault: longer than a cursor gets to become true
    switch.hold(False)
    await whole([known, ahead], [reading, coming], 200)


async def test_behind_a_partition_the_upstream_has_to_wait_and_nothing_is_lost(
    make_redis, make_process, make_switch, upstream, http
):
    switch = await make_switch(make_redis())
    node = await make_process(
        switch.url, upstream=f"{upstream.url}/v1", model="m", lease=10, buffer_limit=100_000
    )
    sid = await start(http, node, seed="b", tokens=60_000)
    reader = Reader(sid)
    reading = asyncio.create_task(reader.read(http, lambda: node.url("")))
    await until(lambda: reader.events)
    switch.hold(True)
    sent, since = 0, time.monotonic()

    async def still():
        nonlocal sent, since
        count = (await upstream.stream("b"))["sent"]
        if count != sent:
            sent, since = count, time.monotonic()
        return time.monotonic() - since > 0.5

    await until(still)
    assert sent < 60_000
    switch.hold(False)
    events = await asyncio.wait_for(reading, HANG)
    assert text_of(events) == expected_text("b", 60_000)


@pytest.mark.parametrize("stays", [True, False], ids=["stays", "passes"])
async def test_a_full_redis_is_waited_for_and_then_it_is_a_typed_error(
    make_redis, make_process, upstream, http, stays
):
    server = make_redis()
    grace = 1 if stays else 10
    flags = {"upstream": f"{upstream.url}/v1", "model": "m", "redis_grace": grace}
    nodes = [await make_process(server.url, **flags) for _ in range(2)]
    _, readings = await watched(http, nodes, seed="f", rate=100, tokens=200)
    client = server.client()
    client.config_set("maxmemory", "1mb")
    if stays:
        await asyncio.wait_for(asyncio.gather(*readings), HANG)
        await until(lambda: upstream.hung_up("f"))
    else:
        await asyncio.sleep(1.5)  # the fault: longer than a lease
    client.config_set("maxmemory", "0")
    client.close()
    one, two = await asyncio.wait_for(asyncio.gather(*readings), HANG)
    assert one == two
    assert expected_text("f", 200).startswith(text_of(one))
    end = one[-1]["type"], one[-1].get("code"), one[-1].get("retryable")
    assert end == (("error", "store_full", True) if stays else ("done", None, None))
    assert stays or text_of(one) == expected_text("f", 200)


async def test_a_redis_that_evicts_is_refused_in_one_line(make_redis):
    server = make_redis("--maxmemory-policy", "allkeys-lru")
    command = [sys.executable, "run.py", "--port=0", f"--redis={server.url}"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), HANG)
    line = "tokenwire: Redis evicts keys (maxmemory-policy allkeys-lru); tokenwire needs noeviction.\n"
    assert (process.returncode, out, errors.decode()) == (1, b"", line)


LOST = {
    "hash": lambda client, sid: client.delete(f"tw:{{{sid}}}:m"),
    "log": lambda client, sid: client.delete(f"tw:{{{sid}}}:l"),
    "beginning": lambda client, sid: client.xtrim(f"tw:{{{sid}}}:l", maxlen=1),
}


async def test_half_a_session_is_never_taken_for_a_whole_one(make_process, redis_server, http):
    writing, reading = [await make_process(linger=0) for _ in range(2)]
    client = redis_server.client()
    for lost, lose in LOST.items():
        sid = await start(http, writing, prompt="h", rate=0, tokens=2000)
        await Reader(sid).read(http, lambda: writing.url(""))
        await until(lambda sid=sid: client.hget(f"tw:{{{sid}}}:m", "lease") == b"0")
        lose(client, sid)
        reader = Reader(sid)
        try:
            await asyncio.wait_for(reader.read(http, lambda: reading.url("")), HANG)
        except Gone:
            assert reader.events == []
        else:
            assert [event.get("code") for event in reader.events] == ["producer_lost"], lost
    client.close()


def _deposed(client):
    client.replicaof("127.0.0.1", "1")
    return lambda: client.replicaof("NO", "ONE")


def _masterless(client):
    client.config_set("replica-serve-stale-data", "no")
    return _deposed(client)


def _replicaless(client):
    client.config_set("min-replicas-to-write", 1)
    return lambda: client.config_set("min-replicas-to-write", 0)


def _forgetful(client):
    client.script_flush()
    return lambda: None


REFUSALS = [
    (_deposed, ("SET", "x", "y"), redis.ReadOnlyError),
    (_masterless, ("GET", "x"), redis.exceptions.MasterDownError),
    (_replicaless, ("SET", "x", "y"), redis.ResponseError),
    (_forgetful, ("EVALSHA", "0" * 40, 0), redis.exceptions.NoScriptError),
]


async def test_a_redis_that_refuses_for_a_while_only_delays(make_redis, make_process, http):
    server = make_redis("--busy-reply-threshold", "100")
    nodes = [await make_process(server.url, lease=5) for _ in range(2)]
    readers, readings = await watched(http, nodes, prompt="w", rate=100, tokens=500)
    client, other = server.client(), server.client()
    for begin, probe, error in REFUSALS:
        undo = begin(client)
        with pytest.raises(error):
            client.execute_command(*probe)
        await asyncio.sleep(0.4)  # the fault
        undo()
        seen = len(readers[1].events)
        await until(lambda seen=seen: len(readers[1].events) > seen)
    # Busy with somebody else's script.
    spinning = asyncio.create_task(asyncio.to_thread(_spin, other))
    await until(lambda: _busy(client))
    await asyncio.sleep(0.4)
    client.script_kill()
    await spinning
    client.close()
    other.close()
    assert not readers[0].ended
    await whole(readers, readings, 500)


def _spin(client):
    with suppress(redis.ResponseError):
        client.eval("while true do end", 0)


def _busy(client):
    try:
        client.get("x")
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


async def test_a_redis_that_loads_its_file_is_waited_for(make_redis, make_process, http):
    server = make_redis("--appendonly", "yes", "--loading-process-events-interval-bytes", "1024")
    nodes = [await make_process(server.url, lease=5) for _ in range(2)]
    readers, readings = await watched(http, nodes, prompt="w", rate=100, tokens=150)
    client = server.client()
    for place in range(300):
        client.set(f"slow{place}", "x" * 2000, ex=60)
    # The file's beginning is a dump; only keys of a dump load slowly on demand.
    client.bgrewriteaof()
    await until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    client.close()
    server.kill()
    await asyncio.to_thread(server.start, "--key-load-delay", "3000")
    await whole(readers, readings, 150)


@pytest.mark.alone
async def test_with_100_ms_to_redis_streams_are_late_but_not_slow(
    make_redis, make_process, make_switch, http
):
    switch = await make_switch(make_redis())
    switch.delay = 0.05
    node = await make_process(switch.url, lease=5)
    began = time.monotonic()
    starting = (start(http, node, prompt="w", rate=25, tokens=50) for _ in range(20))
    sids = await asyncio.gather(*starting)
    started = time.monotonic() - began
    gaps = []

    def hearing():
        at = time.monotonic()

        def heard(event):
            nonlocal at
            now = time.monotonic()
            gaps.append(now - at)
            at = now

        return heard

    readers = [Reader(sid, heard=hearing()) for sid in sids]
    work = [asyncio.create_task(reader.read(http, lambda: node.url(""))) for reader in readers]
    await whole(readers, work, 50)
    took = time.monotonic() - began
    most = sorted(gaps)[len(gaps) * 99 // 100]
    print(f"started in {started:.2f} s, whole {took - started:.2f} s later, gaps {most:.3f} s")
    assert took - started < 50 / 25 + 1.0
    assert most < 0.5
