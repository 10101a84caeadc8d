"""The JavaScript client in Node: against a node of ours, and against servers that do wrong."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from aiohttp import web

from server.events import Content, Done, ToolCall
from tests import clients
from tests.clients import collect, control, start, text_of
from tests.security.people import KEYS, bearer
from tests.waiting import HANG, until

READER = Path(__file__).parent / "reader.mjs"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
each = pytest.mark.parametrize("transport", ["ws", "sse", "fetch"])
EPOCH = 1795219200123


async def output(*arguments, lines=None):
    """Run Node; return the lines of JSON that it prints (or put them into `lines` as they come)."""
    lines = [] if lines is None else lines
    process = await asyncio.create_subprocess_exec(
        NODE, "--no-warnings", "--experimental-websocket", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=READER.parents[2],
        limit=1 << 24,
    )  # fmt: skip
    async with asyncio.timeout(HANG):
        async for line in process.stdout:
            lines.append(json.loads(line))
        assert (await process.stderr.read()).decode() == ""
        await process.wait()
    return lines


async def run(base, lines=None, **plan):
    """Run the reader; return what it told."""
    return await output(str(READER), base, json.dumps(plan), lines=lines)


async def run_script(script, *arguments):
    """Run a script; return the one line of JSON that it prints."""
    (line,) = await output("--input-type=module", "-e", script, *arguments)
    return line


def told(lines, kind, name=0):
    return [line[2] for line in lines if line[:2] == [name, kind]]


def seqs(lines, name=0):
    return [int(event["id"].split("-")[1]) for event in told(lines, "read", name)]


async def session_of(http, node, tokens=40, rate=0, **body):
    """Start a session of the demo, and read it to its end."""
    sid = await start(http, node, tokens=tokens, rate=rate, **body)
    return sid, await collect(clients.sse(http, node, sid))


@each
async def test_it_reads_a_session_from_any_place(http, node, transport):
    sid, events = await session_of(http, node)
    reads = [
        {"session": sid, "transport": transport, "after": after}
        for after in (None, events[0]["id"], events[19]["id"], events[-1]["id"])
    ]
    lines = await run(node.url("/"), reads=reads)
    assert [told(lines, "read", name) for name in range(4)] == [events, events[1:], events[20:], []]
    overs = [line for line in lines if line[:2] == [0, "over"]]
    assert overs == [[0, "over", events[-1]["id"], text_of(events)]]


async def watched(node, the_end, enough, **plan):
    """Run a plan on answers that end when the readers have told `enough`."""
    lines = []
    reading = asyncio.create_task(run(node.url("/"), lines, **plan))
    await until(lambda: enough(lines) or reading.done())
    the_end.set()
    return await reading


@each
async def test_it_goes_on_after_a_cut_and_a_switch(http, node, the_end, transport):
    sid = await start(http, node, rate=300)
    read = {"session": sid, "transport": transport}
    other = "sse" if transport == "ws" else "ws"
    plan = {"cut": 10, "switch": {"at": 40, "to": other}}

    def enough(lines):
        return other in [place["transport"] for place in told(lines, "open")]

    lines = await watched(node, the_end, enough, reads=[read], **plan)
    events = await collect(clients.sse(http, node, sid))
    assert told(lines, "read") == events
    assert told(lines, "refused") == []
    assert [lost["why"] for lost in told(lines, "lost")] == ["cut"]
    opened = told(lines, "open")
    assert (opened[0]["transport"], opened[-1]["transport"]) == (transport, other)


async def test_many_readers_share_one_socket(http, node):
    other, others = await session_of(http, node, tokens=30)
    sid = await start(http, node, tokens=200, rate=300)
    ids = [e["id"] for e in await collect(clients.sse(http, node, sid), count=20)]
    afters = [None, ids[9], ids[4], None, ids[19]]
    reads = [{"session": sid, "after": after, "transport": "ws"} for after in afters]
    reads.append({"session": other, "transport": "ws"})
    while node.node.leavers:  # our own readers above
        await asyncio.sleep(0.01)
    reading = asyncio.create_task(run(node.url("/"), reads=reads))
    most = 0
    while not reading.done():
        most = max(most, len(node.node.leavers))
        await asyncio.sleep(0.01)
    lines = await reading
    events = await collect(clients.sse(http, node, sid))
    places = [
        events.index(next(e for e in events if e["id"] == after)) + 1 if after else 0 for after in afters
    ]
    assert [told(lines, "read", name) for name in range(5)] == [events[place:] for place in places]
    assert told(lines, "read", 5) == others
    assert not [line for line in lines if line[1] in ("refused", "reset", "failed")]
    assert most == 1


async def test_a_cut_socket_comes_back_for_all_its_readers(http, node, the_end):
    sids = [await start(http, node, rate=300) for _ in range(3)]
    for sid in sids:
        await control(http, node, sid, "pause")
    reads = [{"session": sid, "transport": "ws"} for sid in (*sids, sids[0])]

    def enough(lines):
        return all(len(told(lines, "session", name)) == 2 for name in range(4))

    reading = asyncio.create_task(watched(node, the_end, enough, reads=reads, cut=40))
    await until(lambda: node.node.levels().viewers.total() == len(sids) or reading.done())
    for sid in sids:
        await control(http, node, sid, "resume")
    lines = await reading
    for name, sid in enumerate((*sids, sids[0])):
        assert told(lines, "read", name) == await collect(clients.sse(http, node, sid))
        assert "cut" in [lost["why"] for lost in told(lines, "lost", name)]
    assert not [line for line in lines if line[1] in ("refused", "reset", "failed")]


async def test_a_cursor_that_the_log_does_not_hold_is_reset_alone(http, node):
    sid, events = await session_of(http, node)
    reads = [{"session": sid, "transport": "ws", "after": after} for after in (events[4]["id"], "5-9")]
    lines = await run(node.url("/"), reads=reads)
    assert told(lines, "read", 0) == events[5:]
    assert told(lines, "reset", 0) == []
    (reset,) = told(lines, "reset", 1)
    assert reset["reason"] == "diverged"
    assert told(lines, "read", 1)[-len(events) :] == events


@each
async def test_pause_and_resume_are_answered(http, node, the_end, transport):
    sid = await start(http, node, rate=200)
    reads = [{"session": sid, "transport": transport}]
    lines = await watched(node, the_end, lambda lines: told(lines, "answer"), reads=reads, pause=5)
    ((paused, resumed),) = [line[2:] for line in lines if line[1] == "answer"]
    assert (paused["paused"], resumed["paused"]) == (True, False)
    assert [notice["gate"] for notice in told(lines, "paused")] == [paused["gate"]]
    assert told(lines, "read") == await collect(clients.sse(http, node, sid))


@each
async def test_a_tool_calls_own_id_is_not_its_events(http, make_node, transport):
    async def source(request):
        yield ToolCall(0, "call_1", "search", '{"q":"x"}')
        yield Content("so")
        yield Done()

    node = await make_node({"m": source})
    sid = await start(http, node)
    lines = await run(node.url("/"), reads=[{"session": sid, "transport": transport}])
    call = told(lines, "read")[0]
    assert (call["call_id"], call["name"], call["id"].split("-")[1]) == ("call_1", "search", "1")
    assert seqs(lines) == [1, 2, 3]


@each
async def test_what_is_not_there_fails_and_a_signal_stops(http, node, transport):
    sid = await start(http, node, tokens=500, rate=100)
    lines = await run(node.url("/"), reads=[{"session": "A" * 32, "transport": transport}])
    assert lines[-1] == [0, "failed", "not_found"]
    lines = await run(node.url("/"), reads=[{"session": sid, "transport": transport}], stop=3)
    assert (seqs(lines), lines[-1]) == ([1, 2, 3], [0, "failed", "AbortError"])


@each
async def test_a_token_opens_and_steers_what_is_ones_own(http, guarded, the_end, transport):
    http.headers.update(bearer("alice"))
    sid = await start(http, guarded, rate=200)
    read = {"session": sid, "transport": transport}
    base = guarded.url("/")
    reads = [read | {"token": KEYS["alice"]}]
    lines = await watched(guarded, the_end, lambda lines: told(lines, "answer"), reads=reads, pause=5)
    ((paused, resumed),) = [line[2:] for line in lines if line[1] == "answer"]
    assert (paused["paused"], resumed["paused"]) == (True, False)
    events = await collect(clients.sse(http, guarded, sid))
    assert told(lines, "read") == events
    whose = (KEYS["alice"], KEYS["bob"], "tw_x", None)
    lines = await run(base, reads=[read | ({"token": token} if token else {}) for token in whose])
    assert told(lines, "read", 0) == events  # each has a socket of their own
    assert sorted(line for line in lines if line[0] > 0) == [
        [1, "failed", "not_found"], [2, "failed", "unauthorized"], [3, "failed", "unauthorized"],
    ]  # fmt: skip


async def test_a_start_shows_its_token(guarded):
    lines = await run(guarded.url("/"), start={"prompt": "x"}, token=KEYS["alice"])
    assert lines[0][2]["status"] == "running"


@each
async def test_a_token_is_no_harm_where_nobody_asks(http, node, transport):
    sid, events = await session_of(http, node)
    lines = await run(
        node.url("/"), reads=[{"session": sid, "transport": transport, "token": KEYS["alice"]}]
    )
    assert told(lines, "read") == events


class Wrong:
    """A server whose log has five events; each answer sends the places that `script` says.

    `ws`: whether there are sockets, or codes with which the first of them are closed at once; on a
    `mute` one nothing is said, nor to a first start. `refusals` answer the first requests for a body or
    a start: a status, and a `Retry-After` or None.
    """

    def __init__(self, *script, ws=True, mute=False, sse="text/event-stream", refusals=()):
        self.script = list(script)
        self.closes = [] if isinstance(ws, bool) else list(ws)
        self.mute = mute
        self.refusals = list(refusals)
        self.afters = []
        self.keys = []
        self.times = []
        self.sse = sse
        self.app = web.Application()
        self.app.router.add_get("/v1/sessions/{sid}/events", self._events)
        self.app.router.add_post("/v1/sessions", self._start)
        self.app.router.add_get("/healthz", self._well)
        if ws:
            self.app.router.add_get("/v1/ws", self._socket)

    def _answer(self, after):
        self.afters.append(after)
        places = self.script.pop(0)
        start = int(after.split("-")[1]) if after else 0
        return range(start + 1, 6) if places is None else places

    @staticmethod
    def _event(place):
        kind = (
            {"type": "done", "finish_reason": "stop"}
            if place == 5
            else {"type": "content", "content": "x"}
        )
        return {"id": f"{EPOCH}-{place}", **kind}

    def _refuse(self):
        if self.refusals:
            status, after = self.refusals.pop(0)
            return web.Response(status=status, headers={"Retry-After": str(after)} if after else {})
        return None

    async def _events(self, request):
        if refusal := self._refuse():
            return refusal
        ndjson = request.headers["Accept"] == "application/x-ndjson"
        kind = "application/x-ndjson" if ndjson else self.sse
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        for place in self._answer(request.headers.get("Last-Event-ID")):
            event = json.dumps(self._event(place))
            line = f"{event}\n" if ndjson else f"id: {EPOCH}-{place}\ndata: {event}\n\n"
            await response.write(line.encode())
        if self.script == ["silence"]:
            self.script = [None]
            await asyncio.sleep(5)
        return response

    async def _socket(self, request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        if self.closes:
            await ws.close(code=self.closes.pop(0))
            return ws
        async for message in ws:
            body = json.loads(message.data)
            if body["type"] != "attach" or self.mute:
                continue
            sid = body["session"]
            notice = {"session": sid, "type": "session", "status": "running", "seq": 5, "paused": False}
            await ws.send_json(notice)
            await ws.send_json({"type": "reply", "ref": body["ref"], "ok": True, "session": sid})
            for place in self._answer(body.get("after")):
                await ws.send_json({"session": sid, **self._event(place)})
            if self.script == ["silence"]:
                self.script = [None]
                await asyncio.sleep(5)
        return ws

    async def _start(self, request):
        self.keys.append(request.headers["Idempotency-Key"])
        self.times.append(asyncio.get_running_loop().time())
        if refusal := self._refuse():
            return refusal
        if len(self.keys) == 1:
            await asyncio.sleep(5 if self.mute else 0)
            request.transport.abort()
        return web.json_response({"id": "s"}, status=201)

    async def _well(self, request):
        return web.json_response({})


@pytest.fixture
async def serve(aiohttp_server):
    async def make(*script, **options):
        wrong = Wrong(*script, **options)
        server = await aiohttp_server(wrong.app)
        return wrong, str(server.make_url("/"))

    return make


@each
async def test_a_gap_is_refused_reported_and_read_again(serve, transport):
    wrong, base = await serve([1, 2, 4, 5], None)
    lines = await run(base, reads=[{"session": "s", "transport": transport}])
    assert seqs(lines) == [1, 2, 3, 4, 5]
    refused = {"why": "gap", "id": f"{EPOCH}-4", "after": f"{EPOCH}-2"}
    assert told(lines, "refused") == [refused]
    assert wrong.afters == [None, f"{EPOCH}-2"]


@each
async def test_a_server_that_insists_on_a_gap_is_given_up(serve, transport):
    wrong, base = await serve([1, 2, 4], [4], [5])
    lines = await run(base, reads=[{"session": "s", "transport": transport}])
    assert (seqs(lines), lines[-1]) == ([1, 2], [0, "failed", "broken_stream"])
    assert wrong.afters == [None, f"{EPOCH}-2", f"{EPOCH}-2"]
    _, base = await serve([1, 2, 4], [4], [3, 5], [5], None)  # no three of them at one place
    lines = await run(base, reads=[{"session": "s", "transport": transport}])
    assert seqs(lines) == [1, 2, 3, 4, 5]


@each
async def test_a_duplicate_is_refused_and_reported(serve, transport):
    _, base = await serve([1, 2, 2, 1, 3, 4, 5])
    lines = await run(base, reads=[{"session": "s", "transport": transport}])
    assert seqs(lines) == [1, 2, 3, 4, 5]
    assert [(r["why"], r["id"]) for r in told(lines, "refused")] == [
        ("duplicate", f"{EPOCH}-2"), ("duplicate", f"{EPOCH}-1"),
    ]  # fmt: skip


async def test_where_sockets_do_not_get_through_it_falls_to_events_and_then_to_lines(serve):
    _, base = await serve(None, ws=False)
    lines = await run(base, reads=[{"session": "s"}])
    assert told(lines, "fell") == [{"from": "ws", "to": "sse", "why": "refused"}]
    assert seqs(lines) == [1, 2, 3, 4, 5]
    _, base = await serve(None, None, ws=False, sse="text/html")
    lines = await run(base, reads=[{"session": "s"}])
    assert [(fell["from"], fell["to"]) for fell in told(lines, "fell")] == [
        ("ws", "sse"),
        ("sse", "fetch"),
    ]
    assert seqs(lines) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("socket", "why"), [({"mute": True}, "held back"), ({"ws": [1011]}, "refused")])
async def test_where_a_socket_opens_and_says_nothing_it_falls_to_events(serve, socket, why):
    _, base = await serve(None, **socket)
    lines = await run(base, reads=[{"session": "s"}], speed=10)
    assert told(lines, "fell") == [{"from": "ws", "to": "sse", "why": why}]
    assert seqs(lines) == [1, 2, 3, 4, 5]


async def test_a_server_that_says_it_is_moving_keeps_its_sockets(serve):
    _, base = await serve(None, ws=[1012, 1012])
    lines = await run(base, reads=[{"session": "s"}])
    assert [lost["why"] for lost in told(lines, "lost")] == ["closed 1012"] * 2
    assert [opened["transport"] for opened in told(lines, "open")] == ["ws"]
    assert seqs(lines) == [1, 2, 3, 4, 5]


async def test_where_events_get_nowhere_either_sockets_are_tried_again(serve):
    _, base = await serve(None, ws=[1011], refusals=[(503, None)])
    lines = await run(base, reads=[{"session": "s"}])
    assert [fell["to"] for fell in told(lines, "fell")] == ["sse"]
    assert [lost["why"] for lost in told(lines, "lost")] == ["http_503"]
    assert [opened["transport"] for opened in told(lines, "open")] == ["ws"]
    assert seqs(lines) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("take", "left"),
    [([], [1, 2, 3, 4, 5]), (["done"], [1, 2, 3, 4, 5]), (["event"], []), (["content"], [])],
)
async def test_what_came_before_waits_unless_somebody_listens_to_the_log(serve, take, left):
    _, base = await serve(None)
    lines = await run(base, reads=[{"session": "s", "transport": "sse"}], late=True, take=take)
    assert seqs(lines) == left


async def test_an_answer_to_who_left_is_none_to_who_came(aiohttp_server):
    async def socket(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        refs = []
        async for message in ws:
            body = json.loads(message.data)
            if body["type"] != "attach":
                continue
            refs.append(body["ref"])
            await ws.send_json({"session": "s", "type": "session", "status": "running", "seq": 1})
            if len(refs) == 2:
                error = {"code": "draining", "message": "…"}
                await ws.send_json({"type": "reply", "ref": refs[0], "ok": False, "error": error})
                await ws.send_json({"type": "reply", "ref": refs[1], "ok": True, "session": "s"})
                await ws.send_json({"session": "s", "id": "7-1", "type": "done", "finish_reason": "stop"})
        return ws

    app = web.Application()
    app.router.add_get("/v1/ws", socket)
    base = str((await aiohttp_server(app)).make_url("/"))
    lines = await run(base, reads=[{"session": "s", "transport": "ws"}], leave=True)
    assert seqs(lines) == [1]
    assert told(lines, "lost") == []


async def test_an_event_stream_is_hurried_after_a_sleep_in_which_signs_of_life_were_due(serve):
    script = """
        import { sseWire } from "./static/client/bodies.js";
        const { setTimeout: later } = globalThis;
        let delays = [], slept = 0;
        globalThis.setTimeout = (...what) => { delays.push(what[1]); return later(...what); };
        const now = Date.now;
        Date.now = () => now() + slept;
        const item = ({ id }) => {
            if (!id.endsWith("-2")) return;
            delays = [];
            wire.wake();
            const early = delays.length;
            slept = 20_000;
            wire.wake();
            console.log(JSON.stringify([early, delays]));
            process.exit();
        };
        const wire = sseWire({ base: process.argv[1] }, "s", null, { open() {}, item });
    """
    _, base = await serve([1, 2], "silence")
    assert await run_script(script, base) == [0, [4000]]


async def test_a_tab_that_is_gone_leaves_nothing_in_the_shared_worker():
    script = """
        const ticking = new Set(), now = performance.now.bind(performance);
        let later = 0;
        performance.now = () => now() + later;
        globalThis.setInterval = (call) => { ticking.add(call); return call; };
        globalThis.clearInterval = (call) => { ticking.delete(call); };
        await import("./static/client/shared.js");
        const said = [], port = { postMessage: (message) => said.push(message) };
        onconnect({ ports: [port] });
        const say = (data) => port.onmessage({ data });
        const server = { base: "http://127.0.0.1:9/" };
        const attach = (key) => say({ op: "attach", key, server, sid: "s", after: null });
        const counts = [ticking.size];
        const count = () => counts.push(ticking.size);
        attach(1), count();
        say({ op: "bye" }), count();
        attach(2), count();
        later = 59_000, [...ticking][0](), count();
        later = 61_000, [...ticking][0](), count();
        say({ op: "tick", keys: [2] });
        console.log(JSON.stringify([counts, said.filter(({ key }) => key === 2)]));
        process.exit();
    """
    counts, said = await run_script(script)
    assert counts == [0, 1, 0, 1, 1, 0]
    assert said == [{"key": 2, "kind": "lost", "args": ["forgotten", 0, 0]}]


@each
async def test_a_connection_that_falls_silent_is_left(serve, transport):
    wrong, base = await serve([1, 2], "silence")
    lines = await run(base, reads=[{"session": "s", "transport": transport}], speed=10)
    assert [lost["why"] for lost in told(lines, "lost")] == ["silence"]
    assert seqs(lines) == [1, 2, 3, 4, 5]
    assert wrong.afters == [None, f"{EPOCH}-2"]


async def test_a_start_whose_answer_is_lost_is_asked_for_under_the_same_key(serve):
    wrong, base = await serve()
    lines = await run(base, start={"prompt": "x"})
    assert lines == [["start", "session", {"id": "s"}]]
    assert len(wrong.keys) == 2
    assert len(set(wrong.keys)) == 1


async def test_a_start_that_nobody_answers_is_asked_for_again(serve):
    wrong, base = await serve(mute=True)
    lines = await run(base, start={"prompt": "x"}, speed=20)
    assert lines == [["start", "session", {"id": "s"}]]
    assert (len(wrong.keys), len(set(wrong.keys))) == (2, 1)
    assert wrong.times[1] - wrong.times[0] > 1  # 30 s at that speed are 1.5


async def test_a_start_asks_again_for_what_passes_and_no_sooner_than_it_may(serve):
    passing = [(status, None) for status in (408, 425, 429, 502, 503, 504)]
    wrong, base = await serve(refusals=[*passing, (429, 2)])
    lines = await run(base, start={"prompt": "x"}, speed=4)
    assert lines == [["start", "session", {"id": "s"}]]
    assert (len(wrong.keys), len(set(wrong.keys))) == (8, 1)
    assert wrong.times[-1] - wrong.times[-2] >= 2 / 4


@pytest.mark.parametrize("refusal", [(400, None), (500, None), (503, 61)])
async def test_a_start_gives_up_what_is_refused_or_takes_too_long(serve, refusal):
    wrong, base = await serve(refusals=[refusal])
    lines = await run(base, start={"prompt": "x"})
    assert lines == [["start", "failed", f"http_{refusal[0]}"]]
    assert len(wrong.keys) == 1


async def test_a_start_that_is_stopped_waits_no_longer(serve):
    _, base = await serve(refusals=[(503, 59)])
    async with asyncio.timeout(40):
        lines = await run(base, start={"prompt": "x"}, patience=500)
    assert lines == [["start", "failed", "TimeoutError"]]


async def test_waits_are_spread_over_all_of_their_range():
    script = """
        import { Backoff } from "./static/client/timing.js";
        const waits = Array.from({ length: 2000 }, () => {
            const backoff = new Backoff();
            return Array.from({ length: 8 }, () => backoff.next());
        });
        console.log(JSON.stringify(waits));
    """
    for tries, waits in enumerate(zip(*await run_script(script), strict=True)):
        most = min(5000, 200 * 2**tries)
        assert 0 <= min(waits) < most * 0.05
        assert most * 0.95 < max(waits) <= most
        assert 0.45 < sum(waits) / len(waits) / most < 0.55
