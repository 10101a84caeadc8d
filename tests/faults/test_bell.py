"""A Redis that keeps its bell to itself (R14, R15)."""

import asyncio
import signal
import time

import pytest

from tests.clients import seqs, start
from tests.faults.readers import Reader, watched, whole
from tests.waiting import until

LATE = 1.5
"""Seconds by which an event may be late when no bell rings: it is looked for every second."""


@pytest.mark.alone
async def test_without_a_bell_events_are_late_by_no_more_than_a_look(
    make_redis, make_process, upstream, http
):
    server = make_redis()
    flags = {"upstream": f"{upstream.url}/v1", "model": "m"}
    nodes = [await make_process(server.url, **flags) for _ in range(2)]
    sid = await start(http, nodes[0], tokens=220, rate=100, stamp=True)
    late = []

    def heard(event):
        if event["type"] == "content" and event["content"]:
            late.append((time.monotonic_ns() - int(event["content"].strip("@"))) / 1e9)

    reader = Reader(sid, heard=heard)
    reading = asyncio.create_task(reader.read(http, lambda: nodes[1].url("")))
    await until(lambda: len(late) >= 30)
    client, phases = server.client(), [len(late)]
    while len(late) < 80:  # nobody hears it for long
        client.client_kill_filter(_type="pubsub")
        await asyncio.sleep(0.02)
    phases.append(len(late))
    client.execute_command("ACL", "SETUSER", "default", "-publish")  # it does not ring any more
    client.close()
    assert seqs(await reading) == list(range(1, 222))
    deaf, mute = max(late[phases[0] : phases[1]]), max(late[phases[1] :])
    print(
        f"at most {max(late[10:30]):.3f} s late, {deaf:.2f} s without hearing, {mute:.2f} s without rings"
    )
    assert deaf < LATE
    assert 0.3 < mute < LATE


async def test_a_bell_that_overflows_while_a_node_is_frozen_is_not_missed(make_redis, make_process, http):
    server = make_redis("--client-output-buffer-limit", "pubsub 32kb 32kb 1")
    writing, frozen = [await make_process(server.url, lease=10) for _ in range(2)]
    readers, readings = await watched(http, [writing, frozen], prompt="w", rate=100, tokens=150)
    client = server.client()
    listening = len(client.client_list(_type="pubsub"))
    frozen.signal(signal.SIGSTOP)
    channel = f"tw:{{{readers[0].sid}}}:n"
    while len(client.client_list(_type="pubsub")) == listening:
        for _ in range(200):
            client.publish(channel, b"")
    frozen.signal(signal.SIGCONT)
    client.close()
    await whole(readers, readings, 150)
