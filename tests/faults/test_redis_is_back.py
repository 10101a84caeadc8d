"""A Redis that is back: hundreds of logs to write anew, leases that lapsed meanwhile (R1, R2, R6)."""

import asyncio

import pytest

from server.session.directory import LIVE
from tests.clients import collect, seqs, sse, start, text_of
from tests.faults.looking import ready, until
from tests.faults.readers import Reader, watched, whole
from tests.faults.slow_node import PER_LOG
from tests.processes import demo_text

SESSIONS = 300
WATCHED = 20
TOKENS = 120
LEASE = 1.5


def _lose_all(server):
    server.kill()
    server.start()


def _lose_tails(server):
    client = server.client()
    for key in client.scan_iter("tw:*:l", count=1000):
        client.xdel(key, *[id for id, _ in client.xrevrange(key, count=5)])
    # Now each producer looks where its log stands, all at the same moment.
    client.client_kill_filter(_type="normal", skipme=True)
    client.close()


@pytest.mark.alone
@pytest.mark.parametrize("lose", [_lose_all, _lose_tails], ids=["all", "tails"])
async def test_no_lease_lapses_while_hundreds_of_logs_are_written_anew(
    make_redis, make_process, http, lose
):
    assert SESSIONS * PER_LOG > LEASE
    server = make_redis()
    flags = {"lease": LEASE, "linger": 10}
    program = ("-m", "tests.faults.slow_node")
    healing = await make_process(server.url, program=program, **flags)
    watching = await make_process(server.url, **flags)
    names = [f"h{n}" for n in range(SESSIONS)]
    sids = [await start(http, healing, prompt=name, rate=12, tokens=TOKENS) for name in names]
    readers = [Reader(sid) for sid in sids[:: SESSIONS // WATCHED]]
    work = [reader.read(http, lambda: watching.url("")) for reader in readers]
    readings = list(map(asyncio.create_task, work))
    await until(lambda: all(len(reader.events) > 30 for reader in readers), 60)
    client = server.client()
    assert client.zcard(LIVE) == SESSIONS
    client.close()
    lose(server)
    await asyncio.wait_for(asyncio.gather(*readings), 60)
    logs = [await collect(sse(http, watching, sid)) for sid in sids]
    assert [log[-1].get("code", log[-1]["type"]) for log in logs] == ["done"] * SESSIONS
    for name, log in zip(names, logs, strict=True):
        assert text_of(log) == await demo_text(name, TOKENS)
        assert seqs(log) == list(range(1, TOKENS + 2))
    held = dict(zip(sids, logs, strict=True))
    assert [reader.events for reader in readers] == [held[reader.sid] for reader in readers]


async def test_nobody_is_buried_for_a_lease_that_lapsed_while_redis_was_away(
    make_redis, make_process, make_switch, http
):
    server = make_redis("--appendonly", "yes")
    switch = await make_switch(server)
    lease = 4.0
    nodes = [await make_process(url, lease=lease) for url in (switch.url, server.url)]
    readers, readings = await watched(http, nodes, prompt="w", rate=20, tokens=200)
    switch.hold(True)
    switch.cut()
    server.kill()
    await asyncio.sleep(lease)  # the fault: by its clock the lease will have lapsed
    server.start()
    # The other node finds it again before the session's own does.
    await until(lambda: ready(http, nodes[1]))
    await asyncio.sleep(lease / 8)
    switch.hold(False)
    await whole(readers, readings, 200)
