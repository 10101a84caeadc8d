"""One connection for everybody's commands: against a real server, and against one that misbehaves."""

import asyncio
import itertools
from contextlib import suppress

import hiredis
import pytest
from redis.exceptions import ReadOnlyError, ResponseError

from server.errors import StoreUnavailable
from server.session import pipeline as pipelines
from server.session.connections import RedisUrl
from server.session.jobs import Call, Note
from server.session.pace import BUSY, LONGEST, MEMORY, Pace
from server.session.pipeline import BACKOFF, FLIGHT_JOBS, Pipeline
from tests import raw_server
from tests.waiting import HANG, until

pytestmark = pytest.mark.usefixtures("nothing_is_left")

LOST = "lost"


class Clocks:
    """A wall and a thread's CPU, moved by hand."""

    def __init__(self):
        self.wall = self.cpu = 0.0
        self.pace = Pace(lambda: self.wall, lambda: self.cpu)

    def run(self, load, seconds, flights=100):
        """Let time pass at a load, with so many flights in it."""
        for _ in range(flights):
            self.wall += seconds / flights
            self.cpu += load * seconds / flights
            self.pace.leave()
        return self


WAITS = {
    "new": ([], 0.0),
    "idle": ([(0.0, 1.0)], 0.0),
    "full": ([(1.0, 1.0)], LONGEST),
    "full in one turn": ([(1.0, 100.0, 1)], LONGEST),
    "a clock that is off": ([(3.0, 1.0)], LONGEST),
    "full, then idle": ([(1.0, 1.0), (0.0, 1.0)], 0.0),
    "idle, then full": ([(0.0, 1.0), (1.0, 1.0)], LONGEST),
    "no time at all": ([(1.0, 0.0)], 0.0),
}


@pytest.mark.parametrize("name", WAITS)
def test_the_busier_a_node_the_longer_flights_wait(name):
    clocks = Clocks()
    spans, wait = WAITS[name]
    for span in spans:
        clocks.run(*span)
    assert clocks.pace.wait() == pytest.approx(wait, abs=LONGEST / 50)


def test_the_wait_grows_with_the_load():
    waits = [Clocks().run(load / 10, 1.0).pace.wait() for load in range(5)]
    assert waits == sorted(set(waits))
    assert waits[-1] == pytest.approx(LONGEST, abs=LONGEST / 50)


def test_the_load_is_what_it_was_for_a_while():
    clocks = Clocks().run(BUSY, 1.0)
    waits = [clocks.run(0.0, MEMORY / 2, 10).pace.wait() for _ in range(20)]
    assert waits == sorted(set(waits), reverse=True)
    assert 0.0 < waits[1] < LONGEST * 0.5


def test_the_wait_is_counted_from_the_last_flight():
    clocks = Clocks().run(1.0, 1.0)
    whole = clocks.pace.wait()
    left = []
    for _ in range(5):
        left.append(clocks.pace.wait())
        clocks.wall += whole / 4
    assert left == pytest.approx([whole * part / 4 for part in (4, 3, 2, 1, 0)])
    assert clocks.pace.wait() == 0.0


class Caller(raw_server.Caller):
    """A caller of Redis."""

    def __init__(self, reader, writer, at):
        super().__init__(reader, writer)
        self.at = at
        self._parser = hiredis.Reader()

    async def flight(self):
        """Return the commands that came together; the client's greeting is answered on the way."""
        while True:
            commands = await self._commands()
            asked = [command for command in commands if command[0] != b"CLIENT"]
            self._writer.write(b"+OK\r\n" * (len(commands) - len(asked)))
            if asked:
                return asked

    async def _commands(self):
        commands = []
        while not commands:
            data = await asyncio.wait_for(self._reader.read(2**20), HANG)
            if not data:
                raise EOFError
            self._parser.feed(data)
            while (command := self._parser.gets()) is not False:
                commands.append(command)
        return commands

    async def left(self):
        """Wait until the client has closed the connection; return what it sent until then."""
        with suppress(ConnectionError):
            return await asyncio.wait_for(self._reader.read(), HANG)


class Scripted:
    """A server that says what a test says, over the callers that it hands out."""

    def __init__(self):
        self.callers = asyncio.Queue()
        self._writers = []

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def _serve(self, reader, writer):
        self._writers.append(writer)
        self.callers.put_nowait(Caller(reader, writer, asyncio.get_running_loop().time()))

    async def caller(self):
        return await asyncio.wait_for(self.callers.get(), HANG)

    async def stop(self):
        self._server.close()
        for writer in self._writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


class Recorded:
    """A job that keeps what became of it; `then` is called with the replies."""

    def __init__(self, *commands, then=None):
        self.outcome = None
        self.flown = False
        self._commands = commands
        self._then = then

    def commands(self):
        self.flown = True
        return self._commands

    def settle(self, replies):
        self.outcome = replies
        if self._then is not None:
            self._then(replies)

    def lost(self):
        self.outcome = LOST


@pytest.fixture
async def scripted(nothing_is_left):
    server = await Scripted().start()
    yield server
    await server.stop()


@pytest.fixture
async def make(nothing_is_left):
    made = []

    def make(url, pace=None):
        connections = RedisUrl(url).server()
        made.append(Pipeline(connections.make, connections.ready, pace))
        return made[-1]

    yield make
    for pipeline in made:
        await pipeline.aclose()


@pytest.fixture
async def pipeline(make, scripted):
    return make(scripted.url)


@pytest.fixture
async def flying(pipeline, scripted):
    """A job in the air, one that waits for the next flight, and the connection between."""
    jobs = Recorded((b"A",)), Recorded((b"B",))
    pipeline.submit(jobs[0])
    caller = await scripted.caller()
    assert await caller.flight() == [[b"A"]]
    pipeline.submit(jobs[1])
    return caller, jobs


def outcomes(jobs):
    return [job.outcome for job in jobs]


async def test_what_is_asked_for_in_one_turn_goes_in_one_flight(pipeline, scripted):
    jobs = [Recorded((b"A", b"1")), Recorded((b"B",), (b"C",)), Recorded((b"D",))]
    for job in jobs:
        pipeline.submit(job)
    caller = await scripted.caller()
    assert await caller.flight() == [[b"A", b"1"], [b"B"], [b"C"], [b"D"]]
    await caller.send(b":1\r\n:2\r\n:3\r\n:4\r\n")
    await until(lambda: jobs[-1].outcome)
    assert outcomes(jobs) == [[1], [2, 3], [4]]


async def test_what_is_asked_for_during_a_flight_goes_in_the_next(flying, pipeline):
    caller, jobs = flying
    third = Recorded((b"C",))
    pipeline.submit(third)
    await caller.send(b":1\r\n")
    assert outcomes([*jobs, third]) == [[1], None, None]
    assert await caller.flight() == [[b"B"], [b"C"]]
    await caller.send(b":2\r\n:3\r\n")
    await until(lambda: third.outcome)
    assert outcomes([*jobs, third]) == [[1], [2], [3]]


async def test_what_a_reply_asks_for_goes_in_the_next_flight(pipeline, scripted):
    second = Recorded((b"B",))
    pipeline.submit(Recorded((b"A",), then=lambda _: pipeline.submit(second)))
    caller = await scripted.caller()
    assert await caller.flight() == [[b"A"]]
    await caller.send(b":1\r\n")
    assert await caller.flight() == [[b"B"]]
    await caller.send(b":2\r\n")
    await until(lambda: second.outcome)
    assert second.outcome == [2]


async def test_a_job_says_only_when_its_flight_leaves_what_it_wants(flying, pipeline):
    caller, _ = flying
    withdrawn, nothing, note = Call("key", [(b"C",)]), Recorded(), Note("key", (b"D",))
    for job in (withdrawn, nothing, note):
        pipeline.submit(job)
    withdrawn.replies.cancel()
    await caller.send(b":1\r\n")
    assert await caller.flight() == [[b"B"], [b"D"]]
    assert nothing.outcome is None


async def test_a_flight_takes_only_so_many_jobs(pipeline, scripted, monkeypatch):
    monkeypatch.setattr(pipelines, "FLIGHT_JOBS", 2)
    jobs = [Recorded((name.encode(),)) for name in "ABCDE"]
    for job in jobs:
        pipeline.submit(job)
    caller = await scripted.caller()
    flights = []
    for _ in range(3):
        flights.append(await caller.flight())
        await caller.send(b"+OK\r\n" * len(flights[-1]))
    assert flights == [[[b"A"], [b"B"]], [[b"C"], [b"D"]], [[b"E"]]]
    assert outcomes(jobs) == [[b"OK"]] * 5


async def test_jobs_without_commands_hold_nobody_up(pipeline, scripted, monkeypatch):
    monkeypatch.setattr(pipelines, "FLIGHT_JOBS", 2)
    for job in [Recorded(), Recorded(), Recorded(), Recorded((b"A",))]:
        pipeline.submit(job)
    assert await (await scripted.caller()).flight() == [[b"A"]]


REPLIES = b"+OK\r\n$7\r\nhel\r\nlo\r\n*3\r\n:1\r\n$-1\r\n*0\r\n-ERR no\r\n"


async def test_replies_are_the_same_wherever_they_are_cut(pipeline, scripted):
    told = []
    caller = None
    for cut in range(1, len(REPLIES)):
        job = Recorded((b"A",), (b"B",), (b"C",), (b"D",))
        pipeline.submit(job)
        caller = caller or await scripted.caller()
        assert len(await caller.flight()) == 4
        await caller.send(REPLIES[:cut], REPLIES[cut:])
        await until(lambda job=job: job.outcome)
        told.append([*job.outcome[:3], str(job.outcome[3])])
    assert told == [[b"OK", b"hel\r\nlo", [1, None, []], "no"]] * (len(REPLIES) - 1)
    assert scripted.callers.empty()


async def test_an_error_is_the_matter_of_one_job(pipeline, scripted):
    jobs = [Recorded((b"A",)), Recorded((b"B",)), Recorded((b"C",))]
    for job in jobs:
        pipeline.submit(job)
    caller = await scripted.caller()
    await caller.flight()
    await caller.send(b":1\r\n-WRONGTYPE no\r\n:3\r\n")
    await until(lambda: jobs[2].outcome)
    assert (jobs[0].outcome, jobs[2].outcome) == ([1], [3])
    assert [type(reply) for reply in jobs[1].outcome] == [ResponseError]


async def test_a_job_that_cannot_take_its_reply_harms_nobody(pipeline, scripted, caplog):
    def refuse(replies):
        raise ValueError("mine")

    jobs = [Recorded((b"A",)), Recorded((b"B",), then=refuse), Recorded((b"C",))]
    for job in jobs:
        pipeline.submit(job)
    caller = await scripted.caller()
    await caller.flight()
    waiting = Recorded((b"D",))
    pipeline.submit(waiting)
    await caller.send(b":1\r\n:2\r\n:3\r\n")
    assert await caller.flight() == [[b"D"]]
    await caller.send(b":4\r\n")
    await until(lambda: waiting.outcome)
    assert outcomes([*jobs, waiting]) == [[1], [2], [3], [4]]
    assert "a reply could not be taken: ValueError" in caplog.text
    assert "mine" not in caplog.text


BREAKS = {
    "closed": b"",
    "closed in a reply": b"$5\r\nhel",
    "garbage": b"?what\r\n",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a length that is none": b"$x\r\n",
}


@pytest.mark.parametrize("name", BREAKS)
async def test_when_the_connection_breaks_all_jobs_are_lost_and_the_next_reconnects(
    flying, pipeline, scripted, name
):
    told, (caller, jobs) = [], flying
    pipeline.reconnected = lambda: told.append(outcomes(jobs))
    broken = asyncio.get_running_loop().time()
    await caller.send(BREAKS[name])
    if "closed" in name:
        caller.close()
    await caller.left()
    await until(lambda: jobs[1].outcome)
    assert (outcomes(jobs), told) == ([LOST, LOST], [])
    assert pipeline.down_since >= broken

    third = Recorded((b"C",))
    pipeline.submit(third)
    caller = await scripted.caller()
    assert await caller.flight() == [[b"C"]]
    assert told == [[LOST, LOST]]
    assert caller.at - broken >= BACKOFF[0] * 0.9
    await caller.send(b":3\r\n")
    await until(lambda: third.outcome)
    assert (third.outcome, pipeline.down_since) == ([3], None)
    assert pipeline.reconnected_at >= caller.at


async def test_some_replies_of_a_flight_that_breaks_are_as_good_as_none(pipeline, scripted):
    jobs = [Recorded((b"A",)), Recorded((b"B",))]
    for job in jobs:
        pipeline.submit(job)
    caller = await scripted.caller()
    await caller.flight()
    await caller.send(b":1\r\n")
    caller.close()
    await until(lambda: jobs[1].outcome)
    assert outcomes(jobs) == [LOST, LOST]


async def test_an_idle_connection_that_was_closed_is_replaced(pipeline, scripted):
    for number in (1, 2):
        job = Recorded((b"A",))
        pipeline.submit(job)
        caller = await scripted.caller()
        await caller.flight()
        await caller.send(b":%d\r\n" % number)
        caller.close()
        await caller.left()
        await until(lambda: pipeline.down_since is not None)
        assert job.outcome == [number]


async def test_a_reply_that_nobody_asked_for_is_nobody_s(pipeline, scripted):
    jobs = [Recorded((b"A",)), Recorded((b"B",))]
    pipeline.submit(jobs[0])
    caller = await scripted.caller()
    await caller.flight()
    await caller.send(b":1\r\n")
    await until(lambda: jobs[0].outcome)
    await caller.send(b":0\r\n")
    await until(lambda: pipeline.down_since is not None)
    pipeline.submit(jobs[1])
    caller = await scripted.caller()
    assert await caller.flight() == [[b"B"]]
    await caller.send(b":2\r\n")
    await until(lambda: jobs[1].outcome)
    assert outcomes(jobs) == [[1], [2]]


async def fail(pipeline):
    """Submit a job, and wait until it is lost."""
    job = Recorded((b"A",))
    pipeline.submit(job)
    await until(lambda: job.outcome)
    assert job.outcome == LOST


async def test_each_failure_to_connect_is_waited_for_longer(pipeline, scripted, monkeypatch):
    moments = []
    for _ in range(4):
        failing = asyncio.create_task(fail(pipeline))
        caller = await scripted.caller()
        moments.append(caller.at)
        caller.close()
        await failing
    waits = [after - before for before, after in itertools.pairwise(moments)]
    assert all(wait >= least * 0.9 for wait, least in zip(waits, BACKOFF, strict=False))

    job = Recorded((b"A",))
    pipeline.submit(job)
    caller = await scripted.caller()
    await caller.flight()
    await caller.send(b":1\r\n")
    await until(lambda: job.outcome)
    # It is counted from the beginning again: nobody waits as long as for a fourth failure.
    monkeypatch.setattr(pipelines, "BACKOFF", (*BACKOFF[:3], 10 * HANG))
    caller.close()
    await until(lambda: pipeline.down_since is not None)
    pipeline.submit(Recorded((b"A",)))
    await scripted.caller()


async def test_a_server_that_never_answers_is_given_up(flying, pipeline, scripted, monkeypatch):
    monkeypatch.setattr(pipelines, "FLIGHT_TIMEOUT", 0.1)
    caller, jobs = flying
    await caller.send(b":1\r\n")
    assert await caller.flight() == [[b"B"]]
    assert await caller.left() == b""
    await until(lambda: jobs[1].outcome)
    assert outcomes(jobs) == [[1], LOST]
    pipeline.submit(Recorded((b"C",)))
    assert await (await scripted.caller()).flight() == [[b"C"]]


async def test_a_server_that_never_greets_is_given_up(pipeline, scripted, monkeypatch):
    monkeypatch.setattr(pipelines, "FLIGHT_TIMEOUT", 0.1)
    failing = asyncio.create_task(fail(pipeline))
    caller = await scripted.caller()
    await caller.left()
    await failing
    pipeline.submit(Recorded((b"C",)))
    assert await (await scripted.caller()).flight() == [[b"C"]]


@pytest.mark.parametrize(
    "greeting", [b"?what\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$x\r\n", b"-ERR \xff\xfe\r\n" * 2]
)
async def test_a_greeting_that_is_garbage_breaks_the_connection_or_none(pipeline, scripted, greeting):
    job = Recorded((b"A",))
    pipeline.submit(job)
    caller = await scripted.caller()
    await caller.send(greeting)
    caller.close()
    await until(lambda: job.outcome)
    assert job.outcome == LOST
    pipeline.submit(Recorded((b"B",)))
    assert await (await scripted.caller()).flight() == [[b"B"]]


async def test_a_connection_that_cannot_be_made_loses_the_job(make):
    await fail(make("redis://127.0.0.1:1"))


async def test_a_replica_is_left(flying, pipeline, scripted):
    caller, jobs = flying
    await caller.send(b"-READONLY You can't write against a read only replica.\r\n")
    await caller.left()
    await until(lambda: jobs[1].outcome)
    assert [type(reply) for reply in jobs[0].outcome] == [ReadOnlyError]
    assert jobs[1].outcome == LOST
    pipeline.submit(Recorded((b"C",)))
    assert await (await scripted.caller()).flight() == [[b"C"]]


async def test_closing_fails_what_waits(flying, pipeline):
    caller, jobs = flying
    call = Call("key", [(b"C",)])
    pipeline.submit(call)
    await pipeline.aclose()
    assert type(call.replies.exception()) is StoreUnavailable
    assert outcomes(jobs) == [LOST, LOST]
    assert await caller.left() == b""


@pytest.mark.parametrize("turns", range(16))
async def test_closing_while_it_connects(pipeline, scripted, turns):
    async def greet():
        with suppress(EOFError, ConnectionError):
            await (await scripted.caller()).flight()

    greeting = asyncio.create_task(greet())
    job = Recorded((b"A",))
    pipeline.submit(job)
    for _ in range(turns):
        await asyncio.sleep(0)
    await pipeline.aclose()
    assert job.outcome == LOST
    greeting.cancel()
    await asyncio.gather(greeting, return_exceptions=True)


async def test_closing_while_it_waits_to_connect_again(pipeline, scripted, monkeypatch):
    monkeypatch.setattr(pipelines, "BACKOFF", (60.0,))
    failing = asyncio.create_task(fail(pipeline))
    (await scripted.caller()).close()
    await failing
    job = Recorded((b"A",))
    pipeline.submit(job)
    await pipeline.aclose()
    assert job.outcome == LOST


async def test_closing_what_was_never_used_or_is_closed(pipeline):
    await pipeline.aclose()
    await pipeline.aclose()


async def test_what_is_asked_for_after_closing_is_lost(pipeline):
    await pipeline.aclose()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(pipeline.call("key", (b"A",)), HANG)


class Slow(Pace):
    """A pace at which only the first flight would ever leave."""

    flights = 0

    def wait(self):
        return 60.0 if self.flights else 0.0

    def leave(self):
        self.flights += 1


async def test_a_busy_node_waits_for_company_and_an_urgent_job_does_not(make, scripted):
    pipeline = make(scripted.url, Slow())
    pipeline.submit(Recorded((b"A",)))
    caller = await scripted.caller()
    assert await caller.flight() == [[b"A"]]
    await caller.send(b":1\r\n")
    pipeline.submit(Recorded((b"B",)))
    pipeline.submit(Recorded((b"C",)))
    pipeline.submit(Recorded((b"D",)), urgent=True)
    pipeline.submit(Recorded((b"E",)))
    assert await caller.flight() == [[b"B"], [b"C"], [b"D"], [b"E"]]


async def test_how_long_a_busy_node_waits(make, scripted):
    clocks = Clocks().run(1.0, 1.0)
    pipeline = make(scripted.url, clocks.pace)
    loop = asyncio.get_running_loop()
    start = loop.time()
    pipeline.submit(Recorded((b"A",)))
    caller = await scripted.caller()
    assert await caller.flight() == [[b"A"]]
    assert loop.time() - start >= LONGEST * 0.9


@pytest.fixture
async def real(make, each_redis):
    return make(each_redis.url)


async def test_everybody_gets_their_own_reply(real):
    words = [b"%d\r\n\0" % number for number in range(2 * FLIGHT_JOBS + 1)]
    replies = await asyncio.gather(*[real.call("key", (b"ECHO", word), (b"PING",)) for word in words])
    assert replies == [[word, b"PONG"] for word in words]


async def test_a_reply_may_be_large(real):
    large = bytes(range(256)) * 2**15
    assert await real.call("key", (b"ECHO", large), (b"ECHO", b"")) == [large, b""]


async def test_a_real_error_is_the_matter_of_one_job(real):
    jobs = [(b"SET", b"k", b"v", b"EX", 60), (b"LPUSH", b"k", b"x"), (b"NOSUCH",), (b"GET", b"k")]
    replies = [reply for (reply,) in await asyncio.gather(*[real.call("key", job) for job in jobs])]
    assert (replies[0], replies[3]) == (b"OK", b"v")
    assert [type(reply) for reply in replies[1:3]] == [ResponseError, ResponseError]


async def test_a_server_that_is_killed_and_started_again_is_found_again(make, own_redis):
    pipeline = make(own_redis.url)
    assert await pipeline.call("key", (b"PING",)) == [b"PONG"]
    jobs = [Recorded((b"BLPOP", b"k", 0)), Recorded((b"PING",))]
    pipeline.submit(jobs[0])
    await until(lambda: jobs[0].flown)
    pipeline.submit(jobs[1])
    own_redis.kill()
    await until(lambda: jobs[1].outcome)
    assert outcomes(jobs) == [LOST, LOST]
    with pytest.raises(StoreUnavailable):
        await pipeline.call("key", (b"PING",))
    own_redis.start()
    assert await pipeline.call("key", (b"PING",)) == [b"PONG"]


async def test_a_real_replica_is_left(make, own_redis):
    pipeline = make(own_redis.url)
    first, done = await pipeline.call("key", (b"CLIENT", b"ID"), (b"REPLICAOF", b"127.0.0.1", b"1"))
    assert done == b"OK"
    (reply,) = await pipeline.call("key", (b"SET", b"k", b"v", b"EX", 60))
    assert type(reply) is ReadOnlyError
    await until(lambda: pipeline.down_since is not None)
    assert (await pipeline.call("key", (b"CLIENT", b"ID")))[0] > first
