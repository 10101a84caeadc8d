"""A Redis that is replaced by one that has not heard of everything (R6, R7)."""

import asyncio
import signal

import pytest

from tests.clients import seqs, start, text_of
from tests.faults.readers import Reader, watched, whole
from tests.processes import demo_text, free_port
from tests.waiting import HANG, until


@pytest.fixture
async def pair(make_redis, make_switch):
    """A master with its replica, and a switch that leads to the master."""
    port = str(free_port())
    master = make_redis("--port", port, "--repl-diskless-sync-delay", "0")
    replica = make_redis("--replicaof", "127.0.0.1", port)
    client = replica.client()
    await until(lambda: client.info("replication")["master_link_status"] == "up")
    client.close()
    return master, replica, await make_switch(master)


def _detach(replica):
    """Make a replica a master: from here on it misses what the old one takes."""
    client = replica.client()
    client.replicaof("NO", "ONE")
    client.close()


async def test_a_failover_that_loses_acknowledged_tokens_is_healed(pair, make_process, http):
    master, replica, switch = pair
    nodes = [await make_process(switch.url, lease=3) for _ in range(2)]
    readers, readings = await watched(http, nodes, prompt="w", rate=100, tokens=200)
    _detach(replica)
    seen = len(readers[1].events)
    await until(lambda: len(readers[1].events) > seen + 50)
    master.kill()
    switch.lead_to(str(replica.socket))
    await whole(readers, readings, 200)
    client = replica.client()
    assert b"z" in client.xrevrange(f"tw:{{{readers[0].sid}}}:l", count=1)[0][1]
    client.close()


@pytest.mark.parametrize("turns", [1, 5])
async def test_a_rollback_behind_a_connection_that_lives_is_healed(
    make_process, redis_server, client, http, turns
):
    # As behind a proxy that keeps the client's connection: appends in flight meet the older log, and are
    # taken, since its last id is older, too.
    nodes = [await make_process(lease=HANG) for _ in range(2)]
    readers, readings = await watched(http, nodes, prompt="w", rate=200, tokens=1500)
    keys = [f"tw:{{{readers[0].sid}}}:{kind}" for kind in "lm"]
    for _ in range(turns):
        for key in keys:
            client.copy(key, f"{key}:older", replace=True)
        seen = len(readers[1].events)
        await until(lambda seen=seen: len(readers[1].events) > seen + 50)
        with client.pipeline(transaction=True) as together:
            for key in keys:
                together.rename(f"{key}:older", key)
            together.execute()
    await whole(readers, readings, 1500)
    # And what Redis keeps is what they read.
    late = Reader(readers[0].sid)
    assert await late.read(http, lambda: nodes[1].url("")) == readers[0].events


async def test_a_failover_that_loses_the_end_is_healed_while_the_producer_lingers(
    pair, make_process, http
):
    master, replica, switch = pair
    nodes = [await make_process(switch.url, lease=3, linger=10) for _ in range(2)]
    readers, readings = await watched(http, nodes, prompt="w", rate=100, tokens=100)
    _detach(replica)
    await whole(readers, readings, 100)
    master.kill()
    switch.lead_to(str(replica.socket))
    sid, client = readers[0].sid, replica.client()
    await until(lambda: b"z" in client.xrevrange(f"tw:{{{sid}}}:l", count=1)[0][1])
    client.close()
    late = Reader(sid)
    assert await late.read(http, lambda: nodes[1].url("")) == readers[0].events


async def test_a_takeover_that_a_failover_loses_is_never_hidden(pair, make_process, http):
    master, replica, switch = pair
    frozen, other = [await make_process(switch.url, lease=0.6) for _ in range(2)]
    sid = await start(http, frozen, prompt="w", rate=100, tokens=200)
    told = Reader(sid)
    telling = asyncio.create_task(told.read(http, lambda: other.url("")))
    await until(lambda: len(told.events) > 50)
    frozen.signal(signal.SIGSTOP)
    _detach(replica)
    await asyncio.wait_for(telling, HANG)
    assert told.events[-1]["code"] == "producer_lost"
    master.kill()
    switch.lead_to(str(replica.socket))
    frozen.signal(signal.SIGCONT)
    # Whoever saw the lost end comes again: what it holds is not there any more, and it is told.
    again = Reader(sid)
    again.events += [told.events[-1] | {"type": "content"}]
    await asyncio.wait_for(again.read(http, lambda: other.url("")), HANG)
    assert "reset" in again.notices
    fresh = [await Reader(sid).read(http, lambda node=node: node.url("")) for node in (frozen, other)]
    assert fresh == [again.events] * 2
    assert seqs(again.events) == list(range(1, len(again.events) + 1))
    assert (await demo_text("w", 200)).startswith(text_of(again.events))
