"""Redis' clock, by which leases are granted and epochs are made, an hour off (N9); nodes' clocks, too."""

import asyncio
import signal
from functools import partial

import pytest

from tests.clients import seqs, start, text_of
from tests.fake_upstream import expected_text
from tests.faults.readers import Reader
from tests.processes import demo_text
from tests.waiting import HANG, eventually, until

HOUR = 3600


@pytest.fixture
def jumping(clock, make_redis, monkeypatch):
    """A server of Redis' kind whose clock can be set, and what sets it: `jump(seconds)`."""
    server = make_redis()
    monkeypatch.delenv("LD_PRELOAD")  # nobody else's
    client = server.client()
    before = client.time()[0]

    def jump(seconds):
        clock.write_text(f"{seconds:+d}\n")
        eventually(lambda: abs(client.time()[0] - before - seconds) < 600)

    yield server, jump
    client.close()


async def _read(http, sid, nodes):
    readers = [Reader(sid) for _ in nodes]
    readings = [
        asyncio.create_task(reader.read(http, lambda node=node: node.url("")))
        for reader, node in zip(readers, nodes, strict=True)
    ]
    await until(lambda: all(len(reader.events) > 20 for reader in readers))
    return readers, readings


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_a_session_whose_redis_jumps_is_whole_or_ends_in_one_typed_event(
    jumping, make_process, http, seconds
):
    server, jump = jumping
    nodes = [await make_process(server.url) for _ in range(2)]
    kept = {"ttl": 3 * HOUR}  # else a jump forward is its end
    sid = await start(http, nodes[0], prompt="j", rate=100, tokens=300, session=kept)
    readers, readings = await _read(http, sid, nodes)
    jump(seconds)
    await asyncio.wait_for(asyncio.gather(*readings), HANG)
    (end,) = {(r.events[-1]["type"], r.events[-1].get("code")) for r in readers}
    # Forward, every lease has lapsed at once: it may be taken over before it is renewed.
    assert end in {("done", None), ("error", "producer_lost")}
    assert end[0] == "done" or seconds > 0
    for reader in readers:
        assert reader.events == readers[0].events
        assert seqs(reader.events) == list(range(1, len(reader.events) + 1))
        assert (await demo_text("j", 300)).startswith(text_of(reader.events))
    # Nothing of it stays: what begins now is as ever.
    late = Reader(await start(http, nodes[1], prompt="k", tokens=20, rate=0))
    assert text_of(await late.read(http, lambda: nodes[0].url(""))) == await demo_text("k", 20)


async def test_a_lease_from_before_redis_went_back_does_not_hold_for_an_hour(jumping, make_process, http):
    server, jump = jumping
    doomed, other = [await make_process(server.url) for _ in range(2)]
    watched, unwatched = [await start(http, doomed, prompt="j", rate=100, tokens=5000) for _ in range(2)]
    (reader,), readings = await _read(http, watched, [other])
    doomed.signal(signal.SIGSTOP)  # it renews no more
    jump(-HOUR)
    doomed.signal(signal.SIGKILL)
    await asyncio.wait_for(asyncio.gather(*readings), HANG)
    alone = await Reader(unwatched).read(http, lambda: other.url(""))
    for events in (reader.events, alone):
        assert events[-1]["code"] == "producer_lost"
        assert seqs(events) == list(range(1, len(events) + 1))


async def test_two_producers_two_hours_apart_make_one_log(
    make_process, clock, upstream, http, monkeypatch, tmp_path
):
    config, late = tmp_path / "tokenwire.toml", tmp_path / "late"
    config.write_text(f'[models.m]\nbase_url = "{upstream.url}/v1"\ntakeover = "continue"\n')
    clock.write_text(f"+{HOUR}\n")
    late.write_text(f"-{HOUR}\n")
    first = await make_process(config=config)
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(late))
    second = await make_process(config=config)
    sid = await start(http, first, model="m", seed="two", rate=100, tokens=600)
    readers, readings = await _read(http, sid, [first, second])
    for producer, other in ((first, readers[1]), (second, readers[0])):
        producer.signal(signal.SIGSTOP)
        epoch = _epoch(other)
        await until(lambda other=other, epoch=epoch: _epoch(other) > epoch)
        producer.signal(signal.SIGCONT)
        await until(lambda: len({_epoch(reader) for reader in readers}) == 1)
    await asyncio.wait_for(asyncio.gather(*readings), HANG)
    for reader in readers:
        assert text_of(reader.events) == expected_text("two", 600)
        assert seqs(reader.events) == list(range(1, 602))
    # Each that woke up behind its heir let go of its stream.
    await until(partial(_streams, upstream, 3))
    ends = [stream["closed_by_peer"] for stream in (await upstream.stats())["closed"]]
    assert sorted(ends) == [False, True, True]


async def _streams(upstream, count):
    return len((await upstream.stats())["closed"]) == count


def _epoch(reader):
    return int(reader.last.partition("-")[0])
