"""Clients that vanish, sleep, wander and ask for what is not there (C1, C6 and C8 to C13)."""

import asyncio
import json
import random
import signal
from functools import partial
from itertools import groupby

import pytest

from tests.chaos.reading import TRANSPORTS
from tests.clients import control, seqs, start, text_of
from tests.faults.looking import descriptors, viewers
from tests.faults.readers import Reader
from tests.processes import demo_text
from tests.waiting import HANG, until

NOTICED = 10.0
"""Seconds; well before the 15 after which a silent peer is given up."""

PATIENCE = 5.0
"""Seconds that a proxy waits for a byte: many heartbeats, and less than one that was not asked for."""

STORM = 300
"""Viewers that lose their node and knock at the next one, all at the same moment."""


async def test_a_killed_client_is_noticed_at_once_and_resumes_where_it_was(
    make_process, make_reading, http
):
    node = await make_process()
    kinds, wanted = list(TRANSPORTS), {}
    for number in range(24):
        sid = await start(http, node, prompt="k", rate=60 + 10 * number, tokens=150)
        wanted[sid] = kinds[number % 3]
    before = descriptors(node)
    reading = await make_reading(node.url(""), wanted)
    await until(lambda: len({json.loads(line)["sid"] for line in reading.lines()}) == 24)
    await until(lambda: len(reading.lines()) > 1000)
    reading.process.send_signal(signal.SIGKILL)
    await until(lambda: descriptors(node) <= before, NOTICED)
    seen = [json.loads(line) for line in reading.lines()]
    by_session = {sid: list(events) for sid, events in groupby(sorted(seen, key=_sid), key=_sid)}
    whole = await demo_text("k", 150)
    readers = [Reader(sid, kinds[place % 3]) for place, sid in enumerate(wanted)]
    for reader in readers:
        reader.events += by_session[reader.sid]
    await asyncio.gather(*(reader.read(http, lambda: node.url("")) for reader in readers))
    for reader in readers:
        assert text_of(reader.events) == whole
        assert seqs(reader.events) == list(range(1, 152))


def _sid(event):
    return event["sid"]


async def test_clients_that_sleep_too_long_are_sent_away_and_later_get_everything_once(
    make_process, make_reading, client, http
):
    node = await make_process(send_timeout=0.5, linger=0)
    body = {"prompt": "s", "rate": 8000, "tokens": 16_000}
    wanted = {await start(http, node, **body): transport for transport in ("sse", "ws")}
    reading = await make_reading(node.url(""), wanted)
    await until(lambda: len({json.loads(line)["sid"] for line in reading.lines()}) == 2)
    reading.process.send_signal(signal.SIGSTOP)
    asleep = len(reading.lines())
    await until(lambda: all(viewers(client, sid) == 0 for sid in wanted))
    reading.process.send_signal(signal.SIGCONT)
    assert await asyncio.wait_for(reading.process.wait(), HANG) == 0
    items = [json.loads(line) for line in reading.lines()]
    assert asleep < len(items) == 2 * 16_001
    for sid in wanted:
        events = [item for item in items if item["sid"] == sid]
        assert text_of(events) == await demo_text("s", 16_000)
        assert seqs(events) == list(range(1, 16_002))


async def test_fifty_readers_on_two_nodes_read_the_same(make_process, http):
    nodes = [await make_process() for _ in range(2)]
    sid = await start(http, nodes[0], prompt="f", rate=50, tokens=60)
    kinds = list(TRANSPORTS)
    readers = [Reader(sid, kinds[place % 3]) for place in range(50)]

    async def read(place, reader):
        await asyncio.sleep(place / 50)  # some come late
        return await reader.read(http, lambda: nodes[place % 2].url(""))

    first, *others = await asyncio.gather(*(read(*pair) for pair in enumerate(readers)))
    assert text_of(first) == await demo_text("f", 60)
    assert all(events == first for events in others)


async def test_a_quiet_stream_never_keeps_a_proxy_waiting(make_process, http):
    node = await make_process(heartbeat=0.2)
    sid = await start(http, node, rate=0.01, tokens=2)
    paths = {"events": b"\n: ping\n", "events?stream=ndjson": b'{"type":"ping"}\n'}
    for path, sign in paths.items():
        async with http.get(node.url(f"/v1/sessions/{sid}/{path}")) as response:
            assert response.headers["X-Accel-Buffering"] == "no"
            assert response.headers["Cache-Control"] == "no-cache, no-transform"
            assert "Content-Encoding" not in response.headers
            data = b""
            while data.count(sign) < 2:
                # A proxy of this patience would have hung up otherwise.
                data += await asyncio.wait_for(response.content.readany(), PATIENCE)
            # A blank line after a ping would be an event to some parsers.
            assert b"ping\n\n" not in data


RAW_CURSORS = [b"\0", b"1-2\0", "1‐2".encode(), b"\xff\xfe", b"1-" + b"9" * 2048, b"-5", b"1-1-1"]


@pytest.mark.parametrize("cursor", RAW_CURSORS, ids=lambda cursor: repr(cursor)[:20])
async def test_no_garbage_in_a_header_is_taken_for_the_start(make_node, http, cursor):
    node = await make_node()
    sid = await start(http, node, tokens=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(b"GET /v1/sessions/%b/events HTTP/1.1\r\nHost: a\r\n" % sid.encode())
    writer.write(b"Last-Event-ID: %b\r\nConnection: close\r\n\r\n" % cursor)
    answer = await asyncio.wait_for(reader.read(), HANG)
    writer.close()
    await writer.wait_closed()
    assert answer.split()[1] == b"400"
    assert b"id: " not in answer


async def test_a_cursor_of_another_session_is_a_visible_reset(make_process, http):
    node = await make_process()
    sids = [await start(http, node, prompt=name, rate=0, tokens=10) for name in "ab"]
    first, second = Reader(sids[0]), Reader(sids[1])
    await first.read(http, lambda: node.url(""))
    second.events.append(first.events[4])
    await second.read(http, lambda: node.url(""))
    assert second.notices == ["session", "reset"]
    assert text_of(second.events) == await demo_text("b", 10)


async def test_what_has_expired_is_gone_and_what_never_was_is_not_found(make_process, http):
    node, other = await make_process(linger=0), await make_process()
    sid = await start(http, node, rate=0, tokens=3, session={"ttl": 1})
    await Reader(sid).read(http, lambda: node.url(""))

    async def answers(path):
        async with http.get(other.url(f"/v1/sessions/{path}")) as response:
            body = await response.json()
            return response.status, body.get("error", {}).get("code")

    async def expired():
        return (await answers(sid))[0] == 410

    await until(expired)
    for path in (sid, f"{sid}/events", f"{sid}/events?after=1-2", f"{sid}/ws"):
        assert await answers(path) == (410, "gone")
    for path in ("u" * 32, f"{'u' * 32}/events"):
        assert await answers(path) == (404, "not_found")


async def test_what_is_held_behind_a_pause_does_not_expire_while_it_is_watched(make_process, http):
    node = await make_process(linger=0)
    sid = await start(http, node, prompt="w", rate=200, tokens=50, session={"ttl": 1})
    reader = Reader(sid)
    reading = asyncio.create_task(reader.read(http, lambda: node.url("")))
    await until(lambda: reader.events)
    await control(http, node, sid, "pause")
    await asyncio.sleep(2)  # the fault: more than twice its time to live
    await control(http, node, sid, "resume")
    await asyncio.wait_for(reading, HANG)
    assert text_of(reader.events) == await demo_text("w", 50)


async def test_an_eventsource_asks_once_more_after_the_end(make_process, http):
    node = await make_process()
    sid = await start(http, node, rate=100, tokens=20)
    answers, last = [], None
    # What a browser does: comes back with its last id after every end, until it gets a 204.
    while answers[-1:] != [204]:
        headers = {"Last-Event-ID": last} if last else {}
        async with http.get(node.url(f"/v1/sessions/{sid}/events"), headers=headers) as response:
            body = await response.text()
            answers.append(response.status)
            last = [line[4:] for line in body.split("\n") if line.startswith("id: ")][-1:] or [last]
            last = last[0]
    assert answers == [200, 204]


@pytest.mark.alone
async def test_a_storm_of_viewers_that_lost_their_node_is_served_at_once(make_process, http):
    doomed, other = await make_process(), await make_process()
    sids = [await start(http, other, prompt=f"s{n}", rate=20, tokens=50) for n in range(10)]
    kinds, here = list(TRANSPORTS), doomed
    readers = [Reader(sids[place % 10], kinds[place % 3]) for place in range(STORM)]
    readings = [asyncio.create_task(reader.read(http, lambda: here.url(""))) for reader in readers]
    await until(lambda: all(len(reader.events) > 3 for reader in readers))
    here = other
    doomed.signal(signal.SIGKILL)
    await asyncio.wait_for(asyncio.gather(*readings), HANG)
    waits = sorted(reader.waits[-1] for reader in readers)
    assert waits[STORM * 99 // 100] < 1.0
    texts = [await demo_text(f"s{n}", 50) for n in range(10)]
    for place, reader in enumerate(readers):
        assert len(reader.waits) == 2
        assert text_of(reader.events) == texts[place % 10]
        assert seqs(reader.events) == list(range(1, 52))


def _far(reader, reading, count):
    return len(reader.events) >= count or reading.done()


async def test_a_client_may_change_transport_and_node_whenever_it_likes(make_process, http):
    nodes = [await make_process() for _ in range(3)]
    sid = await start(http, nodes[0], prompt="c", rate=100, tokens=100)
    dice, events = random.Random(5), []
    while not events or events[-1]["type"] != "done":
        reader = Reader(sid, dice.choice(list(TRANSPORTS)))
        reader.events += events[-1:]
        reading = asyncio.create_task(reader.connect(http, dice.choice(nodes).url("")))
        await until(partial(_far, reader, reading, dice.randrange(2, 20)), pause=0)
        reading.cancel()
        await asyncio.wait([reading])
        assert "reset" not in reader.notices
        events += reader.events[1:] if events else reader.events
    assert text_of(events) == await demo_text("c", 100)
    assert seqs(events) == list(range(1, 102))
