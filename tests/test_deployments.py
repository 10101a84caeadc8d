"""Redis beyond one server: a cluster and sentinels, with slots that move and masters that die."""

import asyncio
import threading
import time

import pytest
from redis.crc import key_slot

from tests import clients
from tests.clients import becomes, collect, control, seqs, start, text_of
from tests.processes import demo_text
from tests.redis_groups import RedisCluster, Sentinels, lost_acked, until
from tests.waiting import HANG

LEASE = 8.0
"""Seconds; more than a failover takes."""

TOKENS = 400
SESSIONS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("groups")


def group_of(kind, **how):
    """Return the fixture of a group of servers."""

    @pytest.fixture
    def group(folder):
        with kind(folder, **how) as group:
            yield group

    return group


cluster = group_of(RedisCluster)
lone_cluster = group_of(RedisCluster, replicas=0)
"""Masters without replicas."""
sentinels = group_of(Sentinels)


@pytest.fixture
def pair(make_process):
    """Two nodes; the second is only read from."""

    async def make(url):
        return [await make_process(url, lease=LEASE, linger=10, drain=0.2) for _ in range(2)]

    return make


class Reading:
    """Sessions that run on one node, each read by SSE there and by WebSocket from the other node."""

    def __init__(self, http, nodes):
        self._http = http
        self._nodes = nodes
        self.sids = []
        self._readers = []

    async def begin(self, count=SESSIONS, tokens=TOKENS, rate=100):
        self._tokens = tokens
        for number in range(count):
            sid = await start(self._http, self._nodes[0], prompt=f"p{number}", rate=rate, tokens=tokens)
            self.sids.append(sid)
            for node, way in zip(self._nodes, (clients.sse, clients.ws), strict=True):
                self._readers.append((number, asyncio.create_task(self._read(way, node, sid))))
        return self

    async def _read(self, way, node, sid):
        """Read to the final event, coming back after each loss of the connection."""
        events = []
        deadline = time.monotonic() + 2 * HANG
        while not events or events[-1]["type"] == "content":
            assert time.monotonic() < deadline, f"{len(events)} events of {sid}"
            after = events[-1]["id"] if events else None
            try:
                events += await collect(way(self._http, node, sid, after))
            except (OSError, AssertionError):
                await asyncio.sleep(0.1)
        return events

    async def exact(self):
        """Wait for every reader; each must have the whole text, each event once."""
        for number, reader in self._readers:
            events = await reader
            assert events[-1]["type"] == "done", events[-1]
            assert seqs(events) == list(range(1, self._tokens + 2))
            assert text_of(events) == await demo_text(f"p{number}", self._tokens)

    async def running(self, events=50):
        """Wait until each session has some events."""
        for sid in self.sids:
            await becomes(self._http, self._nodes[1], sid, lambda it: it["seq"] >= events)


async def test_on_a_cluster_sessions_spread_and_all_is_the_same(cluster, pair, http):
    nodes = await pair(cluster.url)
    reading = await Reading(http, nodes).begin(tokens=200)
    owners = {cluster.owner(f"{{{sid}}}").port for sid in reading.sids}
    assert owners <= {member.port for member in cluster.members[:3]}
    assert len(owners) == 3
    await reading.exact()
    for member in cluster.members[:3]:
        assert member.events()
    async with http.get(nodes[1].url("/v1/sessions")) as response:
        listed = {session["id"] for session in (await response.json())["sessions"]}
    assert listed >= set(reading.sids)


async def test_on_a_cluster_control_works_from_another_node(cluster, pair, http):
    nodes = await pair(cluster.url)
    for number in range(6):
        sid = await start(http, nodes[0], prompt=f"c{number}", rate=50, tokens=5000)
        assert (await control(http, nodes[1], sid, "pause"))["paused"] is True
        answer = await control(http, nodes[1], sid, "abort")
        assert (answer["status"], answer["upstream_closed"]) == ("aborted", True)
        assert answer["upstream_close_ms"] >= 0


async def test_slots_move_under_load(cluster, pair, http):
    reading = await Reading(http, await pair(cluster.url)).begin()
    await reading.running()
    moved = reading.sids[:6]

    def move():
        for sid in moved:
            key = f"{{{sid}}}"
            there = next(m for m in cluster.members[:3] if m is not cluster.owner(key))
            cluster.migrate(key, there, slowly=lambda: time.sleep(0.1))

    mover = threading.Thread(target=move)
    mover.start()
    await reading.exact()
    await asyncio.to_thread(mover.join)
    assert len({key_slot(sid.encode()) for sid in moved}) == len(moved)


async def fail_over(master, replica):
    """Kill a master whose replica has fallen behind; return how many acknowledged events that lost."""
    master.freeze_replication()
    await asyncio.sleep(0.5)  # what is lost is what comes meanwhile
    lost = lost_acked(master, replica)
    master.kill()
    await asyncio.to_thread(until, lambda: replica.role() == "master")
    return lost


async def test_a_master_of_a_cluster_dies_and_its_replica_lacks_what_was_acknowledged(
    cluster, pair, http, record_property
):
    reading = await Reading(http, await pair(cluster.url)).begin()
    await reading.running()
    master = cluster.owner(f"{{{reading.sids[0]}}}")
    lost = await fail_over(master, cluster.replica_of(master))
    print(f"lost_acked={lost}")
    assert lost > 0
    await reading.exact()


async def test_a_master_without_replica_is_missed_only_by_its_own_sessions(lone_cluster, pair, http):
    nodes = await pair(lone_cluster.url)
    reading = await Reading(http, nodes).begin()
    await reading.running()
    dead = lone_cluster.owner(f"{{{reading.sids[0]}}}")
    others = [sid for sid in reading.sids if lone_cluster.owner(f"{{{sid}}}") is not dead]
    assert others
    dead.kill()
    for sid in others:
        events = await asyncio.wait_for(collect(clients.sse(http, nodes[1], sid)), HANG)
        assert events[-1]["type"] == "done"
    dead.start()
    await reading.exact()


async def test_behind_sentinels_a_failover_loses_nothing(sentinels, pair, http):
    reading = await Reading(http, await pair(sentinels.url)).begin()
    await reading.running()
    lost = await fail_over(sentinels.master, sentinels.replica)
    print(f"lost_acked={lost}")
    assert lost > 0
    await reading.exact()
