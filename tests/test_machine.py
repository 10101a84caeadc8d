"""Any sequence of appends, pauses, resumes, aborts and losses, against a plain list."""

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.events import Aborted, AbortReason, Content, Done, encode
from server.session.answers import Flag
from server.session.codec import PLAIN
from server.session.commands import append_command
from server.session.connections import RedisUrl
from server.session.log import Entry, Log
from server.session.pipeline import Pipeline
from server.session.scripts import load
from server.session.state import Gate
from server.session.store import Identity, Store
from tests.redis_server import RedisServer, binaries
from tests.test_store import SPEC

ABORTED = encode(Aborted(AbortReason.USER))


class StoreAgainstList(RuleBasedStateMachine):
    """The model is `lines`, `gate` and whether it is closed."""

    server: RedisServer
    number = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.lines: list[bytes] = []
        self.gate: int | None = None
        self.closed = False

    def do(self, work):
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        StoreAgainstList.number += 1
        self.sid = f"{StoreAgainstList.number:032d}"
        self.do(self._connect())
        self.who = Identity(self.sid, "me", SPEC, "d")
        _, epoch = self.do(self.store.create(self.who, 30.0))
        self.log = Log([Entry(epoch, 1, 1)])

    async def _connect(self) -> None:
        connections = RedisUrl(self.server.url).server()
        self.pipeline = Pipeline(connections.make, connections.ready)
        self.store = Store(self.pipeline, load(flags=True), PLAIN)

    @precondition(lambda self: not self.closed)
    @rule(texts=st.lists(st.text("ab\n", max_size=3), min_size=1, max_size=4), final=st.booleans())
    def append(self, texts, final) -> None:
        lines = tuple(encode(Content(t)) for t in texts) + ((encode(Done()),) if final else ())
        entry = self.log.next(lines, final)
        assert isinstance(
            self.do(self.pipeline.call(self.sid, append_command(self.sid, entry, PLAIN)))[0], bytes
        )
        self.log.absorb(entry)
        self.lines += lines
        self.closed = final

    @rule()
    def pause(self) -> None:
        result = self.do(self.store.control(self.sid, Gate.SHUT, 60))
        if self.gate is None and not self.closed:
            self.gate = len(self.lines)
        assert result.turn.gate == self.gate

    @rule()
    def resume(self) -> None:
        assert self.do(self.store.control(self.sid, Gate.LIFT)).turn.gate is None
        self.gate = None

    @rule()
    def abort(self) -> None:
        result = self.do(self.store.control(self.sid, Gate.LIFT, final=ABORTED))
        if not self.closed:
            self.lines.append(ABORTED)
            self.log.absorb(result.closing)
        self.gate, self.closed = None, True
        assert result.cursor.seq == len(self.lines)

    @rule(keep=st.integers(0, 5))
    def lose_and_restore(self, keep) -> None:
        turn = self.do(self.store.read(self.sid)).meta.turn
        client = self.server.client()
        key = f"tw:{{{self.sid}}}:l"
        for entry in self.log.entries[keep:]:
            client.xdel(key, str(entry.id))
        client.close()
        until = self.do(self.store.renew(self.who, 30.0, 0)).now_ms + 30_000
        entries = self.log.entries
        assert self.do(self.store.restore(self.who, entries, 30.0, turn, until)) is Flag.OK

    @invariant()
    def the_log_is_the_list(self) -> None:
        if not hasattr(self, "store"):
            return
        read = self.do(self.store.read(self.sid))
        log = Log(read.entries)
        assert (log.lines, log.closed) == (self.lines, self.closed)
        assert read.meta.turn.gate == self.gate

    def teardown(self) -> None:
        if hasattr(self, "pipeline"):
            self.do(self.pipeline.aclose())
        self.loop.close()


def test_the_store_is_a_list(tmp_path):
    StoreAgainstList.server = RedisServer(binaries()[0], tmp_path)
    machine = StoreAgainstList.TestCase
    machine.settings = settings(
        max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    try:
        machine().runTest()
    finally:
        StoreAgainstList.server.kill()
