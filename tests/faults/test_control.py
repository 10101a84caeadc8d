"""Pausing, resuming and aborting where it hurts (K1, K4, K5), and one key for fifty starts (U12)."""

import asyncio
import signal

from tests.clients import control, seqs, session, start, text_of
from tests.faults.readers import Reader
from tests.processes import demo_text
from tests.waiting import HANG, until

MANY = 1_000_000
"""Tokens of an upstream that is never read to its end: more than two sockets hold."""


async def test_a_pause_for_ever_holds_so_much_and_no_more(make_process, upstream, http):
    node = await make_process(upstream=f"{upstream.url}/v1", model="m")
    body = {"seed": "p", "tokens": MANY, "first_after": 0.3, "session": {"hold_limit": 20_000}}
    sid = await start(http, node, **body)
    await control(http, node, sid, "pause")
    await _stands_still(upstream, "p")
    assert (await upstream.stream("p"))["sent"] < MANY
    held = await session(http, node, sid)
    assert held["paused"]
    assert 0 < held["seq"] < 5000
    answer = await control(http, node, sid, "abort")
    assert answer["upstream_closed"]
    await until(lambda: upstream.hung_up("p"))


async def _stands_still(upstream, seed):
    """Wait until a stream has begun and sends nothing for half a second."""
    sent, since = 0, asyncio.get_running_loop().time()

    async def still():
        nonlocal sent, since
        now, count = asyncio.get_running_loop().time(), (await upstream.stream(seed))["sent"]
        if count != sent:
            sent, since = count, now
        return sent > 0 and now - since > 0.5

    await until(still)


async def test_an_abort_past_a_frozen_producer_closes_its_upstream_when_it_wakes(
    make_process, upstream, http
):
    flags = {"upstream": f"{upstream.url}/v1", "model": "m"}
    frozen, other = await make_process(**flags), await make_process(**flags)
    sid = await start(http, frozen, seed="z", tokens=5000, rate=100)
    reader = Reader(sid)
    reading = asyncio.create_task(reader.read(http, lambda: other.url("")))
    await until(lambda: len(reader.events) > 10)
    frozen.signal(signal.SIGSTOP)
    answer = await control(http, other, sid, "abort")
    assert (answer["status"], answer["upstream_closed"]) == ("aborted", False)
    await asyncio.wait_for(reading, HANG)
    assert not await upstream.hung_up("z")
    frozen.signal(signal.SIGCONT)
    took = await until(lambda: upstream.hung_up("z"))
    print(f"closed {took * 1000:.0f} ms after the node woke")
    # Whoever asks again is told that it is closed.
    assert (await control(http, other, sid, "abort"))["upstream_closed"]


async def test_a_pause_or_resume_asked_twenty_times_at_once_is_one(make_process, http):
    nodes = [await make_process() for _ in range(2)]
    sid = await start(http, nodes[0], prompt="q", rate=100, tokens=300)
    reader = Reader(sid)
    reading = asyncio.create_task(reader.read(http, lambda: nodes[1].url("")))
    await until(lambda: reader.events)
    for round_ in range(3):
        gates = set()
        for answer in await _twenty(http, nodes, sid, "pause"):
            gates.add(answer["gate"])
        (gate,) = gates
        await until(lambda round_=round_: reader.notices.count("paused") == round_ + 1)
        assert seqs(reader.events)[-1] == gate
        resumed = await _twenty(http, nodes, sid, "resume")
        assert {answer["gate"] for answer in resumed} == {None}
        await until(lambda gate=gate: len(reader.events) > gate)
    await asyncio.wait_for(reading, HANG)
    assert reader.notices.count("resumed") == 3
    assert text_of(reader.events) == await demo_text("q", 300)
    assert seqs(reader.events) == list(range(1, 302))


async def _twenty(http, nodes, sid, action):
    asking = (control(http, nodes[n % 2], sid, action) for n in range(20))
    return await asyncio.gather(*asking)


async def test_fifty_starts_with_one_key_ask_the_upstream_once(make_process, upstream, http):
    flags = {"upstream": f"{upstream.url}/v1", "model": "m"}
    nodes = [await make_process(**flags) for _ in range(2)]

    async def begin(place):
        url, headers = nodes[place % 2].url("/v1/sessions"), {"Idempotency-Key": "one"}
        async with http.post(url, json={"prompt": "x", "seed": "i"}, headers=headers) as response:
            return (await response.json())["id"]

    assert len(set(await asyncio.gather(*map(begin, range(50))))) == 1
    assert (await upstream.stats())["requests"] == 1
