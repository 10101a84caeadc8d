"""The store's contract, on each kind of server that this machine has."""

import asyncio
import time

import pytest

from server.events import Aborted, AbortReason, Content, Cursor, Done, encode
from server.session.answers import Flag, Shut, Turn, parse_turn
from server.session.codec import PLAIN
from server.session.commands import append_command, gate_command
from server.session.connections import RedisUrl
from server.session.directory import Directory
from server.session.lease import Lease
from server.session.log import Entry, Log
from server.session.pipeline import Pipeline
from server.session.scripts import load
from server.session.state import Gate, Spec
from server.session.store import Identity, Store

SID = "s" * 32
SPEC = Spec(
    model="m", created=int(time.time() * 1000), conversation=None, ttl=60.0, orphan_ttl=None,
    hold_limit=0, pause_ttl=60.0,
)  # fmt: skip
ME, OTHER = (Identity(SID, owner, SPEC, "digest") for owner in ("me", "other"))
ABORTED = encode(Aborted(AbortReason.USER))


@pytest.fixture
async def pipeline(each_redis):
    connections = RedisUrl(each_redis.url).server()
    pipeline = Pipeline(connections.make, connections.ready)
    pipeline.scripts = load((await connections.facts()).flags)
    yield pipeline
    await pipeline.aclose()


@pytest.fixture
async def store(pipeline):
    return Store(pipeline, pipeline.scripts, PLAIN)


class Writer:
    """Appends as a producer does, and keeps what was acknowledged."""

    def __init__(self, pipeline, epoch):
        self.pipeline = pipeline
        self.log = Log([Entry(epoch, 1, 1)])

    async def append(self, *texts, final=False):
        lines = [encode(Content(text)) for text in texts] + ([encode(Done())] if final else [])
        entry = self.log.next(tuple(lines), final)
        reply = (await self.pipeline.call(SID, append_command(SID, entry, PLAIN)))[0]
        if isinstance(reply, bytes):
            self.log.absorb(entry)
        return reply


@pytest.fixture
def raw(each_redis):
    """A client of the server, to take away what it holds."""
    client = each_redis.client()
    yield client
    client.close()


@pytest.fixture
async def writer(pipeline, store):
    flag, epoch = await store.create(ME, 1.0)
    assert flag is Flag.OK
    return Writer(pipeline, epoch)


async def holed(writer, raw):
    """Append three events, and have the second one lost."""
    for text in ("a", "b", "c"):
        await writer.append(text)
    raw.xdel(f"tw:{{{SID}}}:l", str(writer.log.entries[2].id))


async def test_creating_twice(store, writer):
    assert await store.create(ME, 1.0) == (Flag.OK, writer.log.epoch)
    assert (await store.create(OTHER, 1.0))[0] is Flag.EXISTS
    foreign = Identity(SID, "x", SPEC, "another digest")
    assert (await store.create(foreign, 1.0))[0] is Flag.CONFLICT


async def test_what_is_appended_is_read_back_from_any_cursor(store, writer):
    await writer.append("a", "b")
    await writer.append("c", final=True)
    whole = (await store.read(SID)).entries
    assert list(whole) == writer.log.entries
    later = await store.read(SID, whole[1].id)
    assert later.entries == whole[1:]


async def test_an_append_may_be_sent_twice_and_lands_once(pipeline, store, writer):
    entry = writer.log.next((encode(Content("a")),), final=False)
    first = (await pipeline.call(SID, append_command(SID, entry, PLAIN)))[0]
    second = (await pipeline.call(SID, append_command(SID, entry, PLAIN)))[0]
    assert first == str(entry.id).encode()
    assert isinstance(second, Exception)
    assert len((await store.read(SID)).entries) == 2


async def test_after_an_abort_nothing_can_be_added(store, writer):
    await writer.append("a")
    result = await store.control(SID, Gate.LIFT, final=ABORTED)
    assert (result.flag, result.cursor.seq, result.final) == (Flag.OK, 2, ABORTED)
    assert isinstance(await writer.append("b"), Exception)
    again = await store.control(SID, Gate.LIFT, final=ABORTED)
    assert (again.flag, again.cursor) == (Flag.CLOSED, result.cursor)
    seen = await store.renew(ME, 1.0, 0)
    assert (seen.flag, seen.epoch) == (Flag.OK, result.cursor.epoch)


async def test_pausing_twice_keeps_the_first_gate(store, writer, pipeline):
    await writer.append("a", "b")
    assert (await store.control(SID, Gate.SHUT, 60)).turn.gate == 2
    await writer.append("c")
    assert (await store.control(SID, Gate.SHUT, 60)).turn.gate == 2
    reply = (await pipeline.call(SID, gate_command(SID)))[0]
    assert parse_turn(reply, 0).gate == 2
    assert (await store.control(SID, Gate.LIFT)).turn.gate is None
    assert (await store.control(SID, Gate.LIFT)).turn.gate is None


async def test_each_pause_and_each_resume_is_a_turn_above_the_last(store, writer):
    numbers = []
    for verb in (Gate.SHUT, Gate.SHUT, Gate.LIFT, Gate.LIFT, Gate.SHUT):
        numbers.append((await store.control(SID, verb, 60)).turn.number)
    assert numbers[0] == numbers[1] < numbers[2] == numbers[3] < numbers[4]


async def test_a_lost_turn_is_put_back_and_an_old_one_is_not(store, writer, raw):
    await writer.append("a", "b")
    paused = (await store.control(SID, Gate.SHUT, 60)).turn
    raw.hdel(f"tw:{{{SID}}}:m", "gate")
    await store.regate(SID, paused)
    assert (await store.read(SID)).meta.turn.gate == 2
    lifted = (await store.control(SID, Gate.LIFT)).turn
    await store.regate(SID, paused)
    assert (await store.read(SID)).meta.turn == lifted


async def test_a_pause_over_a_hole_gates_what_is_whole(store, writer, raw):
    await holed(writer, raw)
    assert (await store.control(SID, Gate.SHUT, 60)).turn.gate == 1


async def test_a_held_lease_is_not_taken_and_a_lapsed_one_ends_the_log(store, writer):
    await writer.append("a")
    final = b'{"type":"error","code":"x","message":"","retryable":true}'
    assert await store.claim(SID, "other", final, 60) is Flag.HELD
    await store.renew(ME, 0.0, 0)
    assert await store.claim(SID, "other", final, 60) is Flag.OK
    assert await store.claim(SID, "third", final, 60) is Flag.CLOSED
    assert (await store.renew(ME, 1.0, 0)).flag is Flag.FENCED
    assert isinstance(await writer.append("b"), Exception)
    log = Log((await store.read(SID)).entries)
    assert (log.head, log.closed, log.lines[-1]) == (2, True, final)


async def test_a_lost_log_is_restored_and_only_by_its_owner(store, writer, raw):
    await writer.append("a")
    await writer.append("b")
    until = (await store.renew(ME, 5.0, 0)).now_ms + 5000
    raw.flushall()
    assert (await store.renew(ME, 1.0, 0)).flag is Flag.GONE
    entries = writer.log.entries
    assert await store.restore(ME, entries, 1.0, Turn(7, Shut(1, 60.0)), until) is Flag.OK
    read = await store.read(SID)
    assert (list(read.entries), read.meta.turn.gate) == (entries, 1)
    assert await store.restore(OTHER, entries, 1.0, Turn(), until) is Flag.FENCED
    assert await store.restore(ME, entries, 1.0, Turn(), 1) is Flag.LATE


async def test_a_restore_that_comes_twice_takes_nothing_away(store, writer):
    await writer.append("a")
    until = (await store.renew(ME, 5.0, 0)).now_ms + 5000
    before = list(writer.log.entries)
    await writer.append("b")
    assert await store.restore(ME, before, 1.0, Turn(), until) is Flag.OK
    assert list((await store.read(SID)).entries) == writer.log.entries


async def test_a_lost_lease_comes_back_before_its_log_and_only_in_time(store, writer, raw):
    await writer.append("a")
    until = (await store.renew(ME, 5.0, 0)).now_ms + 5000
    log = writer.log
    raw.flushall()
    assert (await store.regain(ME, log.top, 5.0, Turn(), 1))[0] is Flag.LATE
    assert not (await store.read(SID)).there
    assert (await store.regain(ME, log.top, 5.0, Turn(7), until))[0] is Flag.OK
    assert (await store.regain(OTHER, log.top, 5.0, Turn(), until))[0] is Flag.FENCED
    assert await store.claim(SID, "n", ABORTED, 1.0) is Flag.HELD
    read, renewal = await store.read(SID), await store.renew(ME, 5.0, 0)
    assert (read.there, read.meta.turn.number, read.entries) == (False, 7, ())
    assert (renewal.flag, renewal.epoch, renewal.entries) == (Flag.OK, log.epoch, 0)
    assert await store.restore(ME, log.entries, 5.0, Turn(), until) is Flag.OK
    assert list((await store.read(SID)).entries) == log.entries


async def test_an_heir_goes_on_behind_what_it_has_read_or_not_at_all(store, writer, raw):
    await writer.append("a")
    read = writer.log.top
    assert (await store.inherit(OTHER, 1.0, read, 3))[0] is Flag.HELD
    await store.renew(ME, 0, 0)
    await writer.append("b")
    assert (await store.inherit(OTHER, 1.0, read, 3))[0] is Flag.MOVED
    # What lies beyond a hole nobody has read.
    await writer.append("c")
    raw.xdel(f"tw:{{{SID}}}:l", str(writer.log.entries[2].id))
    flag, epoch = await store.inherit(OTHER, 1.0, read, 3)
    assert (flag, (await store.inherit(OTHER, 1.0, read, 3))) == (Flag.OK, (Flag.OK, epoch))
    marker = Entry(epoch, 2, 3)
    assert list((await store.read(SID)).entries) == [*writer.log.entries[:2], marker]
    assert isinstance(await writer.append("d"), Exception)


async def test_a_hole_is_seen_and_cut_by_who_closes(store, writer, raw):
    await holed(writer, raw)
    assert (await store.renew(ME, 1.0, 0)).dense is False
    result = await store.control(SID, Gate.LIFT, final=ABORTED)
    log = Log((await store.read(SID)).entries)
    assert (result.cursor.seq, log.head, log.closed) == (2, 2, True)


@pytest.mark.parametrize("lost", [1, 2])  # a hole, or the end itself
async def test_who_has_ended_keeps_its_lease_until_its_log_is_whole(store, writer, raw, lost):
    await writer.append("a")
    await writer.append("b", final=True)
    raw.xdel(f"tw:{{{SID}}}:l", str(writer.log.entries[lost].id))
    lease = Lease(ME, store, 5.0)
    lease.begin(writer.log.epoch)
    lease.report = b"{}"
    assert not await lease.release()
    assert (await store.read(SID)).meta.lease > 0
    assert not (await lease.renew()).dense or lost == 2
    assert lease.running
    turn = (await store.read(SID)).meta.turn
    assert await store.restore(ME, writer.log.entries, 5.0, turn, lease.until_ms) is Flag.OK
    assert await lease.release()
    assert (await store.read(SID)).meta.lease <= 0


async def test_a_wiped_session_stays_wiped(store, writer):
    await writer.append("a")
    until = (await store.renew(ME, 5.0, 0)).now_ms + 5000
    await store.wipe(SID, 60)
    assert (await store.renew(ME, 1.0, 0)).flag is Flag.DELETED
    assert await store.restore(ME, writer.log.entries, 1.0, Turn(), until) is Flag.DELETED
    assert (await store.control(SID, Gate.LIFT)).flag is Flag.DELETED
    assert (await store.create(ME, 1.0))[0] is Flag.GONE


async def test_an_epoch_is_never_minted_twice(store, writer):
    epochs = [writer.log.epoch]
    for _ in range(3):
        await store.wipe(SID, 0.001)
        await asyncio.sleep(0.005)
        epochs.append((await store.create(ME, 1.0))[1])
        epochs.append((await store.control(SID, Gate.LIFT, final=ABORTED)).cursor.epoch)
    assert epochs == sorted(set(epochs))


async def test_the_directory_finds_what_lapsed_and_what_is_recent(pipeline, store, writer):
    directory = Directory(pipeline)
    now = await directory.now_ms()
    assert await directory.recent(0, 10) == [SID]
    assert await directory.known(SID)
    assert not await directory.known("x" * 32)
    assert await directory.lapsed(now - 3_600_000, 3_700_000, 10) == []
    assert await directory.lapsed(now + 5000, 5000, 10) == [SID]
    await directory.forget([SID], 0)
    assert await directory.lapsed(now + 5000, 5000, 10) == []
    assert await directory.secret() == await directory.secret()


async def test_viewers_of_all_nodes_are_counted(store, writer):
    await store.attend(SID, "a", 2, 5.0, 60.0)
    await store.attend(SID, "b", 3, 5.0, 60.0)
    await store.attend(SID, "b", 1, 5.0, 60.0)
    assert await store.viewers(SID) == 3
    seen = await store.renew(ME, 1.0, 0)
    assert (seen.viewers, seen.watched) == (3, True)
    assert seen.top == Cursor(writer.log.epoch, 0)
