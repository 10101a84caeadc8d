"""The AI SDK's chunks: event lists to exact parts, and the same bytes from wherever one reads on."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.events import (
    Aborted,
    AbortReason,
    Bytes,
    Content,
    Done,
    Error,
    Event,
    Reasoning,
    ToolCall,
    encode,
)
from server.session.log import Entry, Log
from server.wire.ai_sdk import AiSdk
from tests.drawn_events import FINALS, PIECES

SID = "s" * 32
OPENING = [{"type": "start", "messageId": "m1"}, {"type": "start-step"}]
DONE = [{"type": "finish-step"}, {"type": "finish", "finishReason": "stop"}]


def log_of(events: list[Event]) -> Log:
    lines = tuple(map(encode, events))
    final = isinstance(events[-1], Done | Aborted | Error) if events else False
    return Log([Entry(7, 1, 1), Entry(7, 1, 2, lines, final)]) if lines else Log([Entry(7, 1, 1)])


def told(events: list[Event]) -> list[dict]:
    """Return the chunks after the opening, as a WebSocket's client counts them."""
    lines = AiSdk("m1", numbered=True).encoding(SID).slice(log_of(events), 0, len(events))
    chunks = [orjson.loads(b"{%b}" % line) for line in lines.splitlines()]
    assert [c["sequence"] for c in chunks] == list(range(len(OPENING), len(OPENING) + len(chunks)))
    return [c["chunk"] for c in chunks]


def delta(kind, id, text):
    return {"type": f"{kind}-delta", "id": id, "delta": text}


def start(kind, id):
    return {"type": f"{kind}-start", "id": id}


def end(kind, id):
    return {"type": f"{kind}-end", "id": id}


def tool(kind, id, name="search", **more):
    names = {"toolCallId": id} | ({"toolName": name} if kind != "delta" else {})
    return {"type": f"tool-input-{kind}", **names, **more}


DEEP = "[" * 300 + "]" * 300
TABLE = {
    "text": (
        [Content("Hel"), Content("lo"), Done()],
        [
            start("text", "0"), delta("text", "0", "Hel"), delta("text", "0", "lo"),
            end("text", "0"), *DONE,
        ],
    ),
    "reasoning, then text, then reasoning": (
        [Reasoning("hm"), Content("a"), Reasoning("so"), Done()],
        [
            start("reasoning", "0"), delta("reasoning", "0", "hm"), end("reasoning", "0"),
            start("text", "1"), delta("text", "1", "a"), end("text", "1"),
            start("reasoning", "2"), delta("reasoning", "2", "so"), end("reasoning", "2"), *DONE,
        ],
    ),
    "a tool call after a text": (
        [
            Content("a"), ToolCall(0, "c1", "search", '{"q"'), ToolCall(0, arguments=':"x"}'),
            Done("tool_calls"),
        ],
        [
            start("text", "0"), delta("text", "0", "a"), end("text", "0"),
            tool("start", "c1"), tool("delta", "c1", inputTextDelta='{"q"'),
            tool("delta", "c1", inputTextDelta=':"x"}'), tool("available", "c1", input={"q": "x"}),
            DONE[0], {"type": "finish", "finishReason": "tool-calls"},
        ],
    ),
    "two tool calls, their deltas mixed, one without input": (
        [
            ToolCall(0, "c1", "search"), ToolCall(1, "c2", "read", "[1,"), ToolCall(0),
            ToolCall(1, arguments="2]"), Done(),
        ],
        [
            tool("start", "c1"), tool("start", "c2", "read"),
            tool("delta", "c2", inputTextDelta="[1,"), tool("delta", "c2", inputTextDelta="2]"),
            tool("available", "c1", input={}), tool("available", "c2", "read", input=[1, 2]), *DONE,
        ],
    ),
    "tool calls that all say to be the first": (
        [ToolCall(0, "c1", "search", "{}"), ToolCall(0, "c2", "search", "{}"), Done()],
        [
            tool("start", "c1"), tool("delta", "c1", inputTextDelta="{}"),
            tool("start", "c2"), tool("delta", "c2", inputTextDelta="{}"),
            tool("available", "c1", input={}), tool("available", "c2", input={}), *DONE,
        ],
    ),
    "a tool call whose input is nested too deeply": (
        [ToolCall(0, "c", "search", DEEP), Done()],
        [
            tool("start", "c"), tool("delta", "c", inputTextDelta=DEEP),
            tool("error", "c", input=DEEP, errorText="The model's input for this tool is not JSON."),
            *DONE,
        ],
    ),
    "a tool call whose input is not JSON, and that has no id": (
        [ToolCall(0, None, "search", "{q"), Done()],
        [
            tool("start", "call_0"), tool("delta", "call_0", inputTextDelta="{q"),
            tool("error", "call_0", input="{q",
                 errorText="The model's input for this tool is not JSON."), *DONE,
        ],
    ),
    "an abort leaves a tool call without its input": (
        [ToolCall(0, "c1", "search", "{"), Aborted(AbortReason.USER)],
        [
            tool("start", "c1"), tool("delta", "c1", inputTextDelta="{"),
            {"type": "abort", "reason": "user"},
        ],
    ),
    "a failure in the middle": (
        [Content("a"), Error("upstream_stall", "The model server stopped sending.", True)],
        [
            start("text", "0"), delta("text", "0", "a"), end("text", "0"),
            {"type": "error", "errorText": "The model server stopped sending."},
        ],
    ),
    "a file in two pieces": (
        [Bytes(b"\x89PN", "image/png"), Bytes(b"G"), Done()],
        [{"type": "file", "url": "data:image/png;base64,iVBORw==", "mediaType": "image/png"}, *DONE],
    ),
    "nothing": ([Done()], DONE),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_events_become_these_chunks(name):
    events, chunks = TABLE[name]
    assert told(events) == chunks


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        ("stop", "stop"), ("length", "length"), ("content_filter", "content-filter"),
        ("function_call", "tool-calls"), ("eos", "other"),
    ],
)  # fmt: skip
def test_a_reason_to_finish_is_one_that_the_client_knows(said, finish):
    assert told([Done(said)])[-1] == {"type": "finish", "finishReason": finish}


def test_the_stream_is_sse_to_the_byte():
    encoding = AiSdk("m1").encoding(SID)
    assert encoding.place(log_of([]), 0, 0) == (
        0,
        b'data: {"type":"start","messageId":"m1"}\n\ndata: {"type":"start-step"}\n\n',
    )
    assert encoding.slice(log_of([Content("a\nb"), Done()]), 0, 2) == (
        b'data: {"type":"text-start","id":"0"}\n\n'
        b'id: 7-1\ndata: {"type":"text-delta","id":"0","delta":"a\\nb"}\n\n'
        b'data: {"type":"text-end","id":"0"}\n\ndata: {"type":"finish-step"}\n\n'
        b'data: {"type":"finish","finishReason":"stop"}\n\nid: 7-2\ndata: [DONE]\n\n'
    )


def test_a_lost_answer_is_an_error_over_http_and_no_number_out_of_turn_over_a_socket():
    assert b'"type":"error"' in AiSdk("m1").encoding(SID).notice("reset", {})
    assert AiSdk("m1", numbered=True).encoding(SID).notice("reset", {}) == b""
    assert AiSdk("m1").encoding(SID).notice("session", {}) == b""


LOGS = st.tuples(st.lists(PIECES, max_size=12), FINALS).map(lambda log: [*log[0], log[1]])


@given(LOGS, st.data(), st.booleans())
def test_whoever_reads_on_anywhere_gets_the_same_bytes(events, data, numbered):
    log, dialect = log_of(events), AiSdk("m1", numbered)
    whole = dialect.encoding(SID).slice(log, 0, len(events))
    cut = data.draw(st.integers(0, len(events)))
    before = dialect.encoding(SID).slice(log, 0, cut)
    assert before + dialect.encoding(SID).slice(log, cut, len(events)) == whole


@given(LOGS, st.data())
def test_whoever_holds_any_number_of_chunks_gets_exactly_the_others(events, data):
    log, dialect = log_of(events), AiSdk("m1", numbered=True)
    _, opening = dialect.encoding(SID).place(log, 0, 0)
    lines = (opening + dialect.encoding(SID).slice(log, 0, len(events))).splitlines()
    held = data.draw(st.integers(0, len(lines)))
    encoding = dialect.encoding(SID)
    seq, rest = encoding.place(log, len(events), held)
    assert (rest + encoding.slice(log, seq, len(events))).splitlines() == lines[held:]
    assert encoding.place(log, len(events), len(lines) + 1) is None


@given(LOGS)
def test_every_part_begins_before_it_grows_and_ends_once(events):
    opened: set[str] = set()
    started: list[str] = []
    for chunk in told(events):
        kind, _, what = chunk["type"].partition("-")
        if kind in ("text", "reasoning"):
            if what == "start":
                assert chunk["id"] not in started
                started.append(chunk["id"])
                opened.add(chunk["id"])
            else:
                assert chunk["id"] in opened
                opened -= {chunk["id"]} if what == "end" else set()
    assert opened == set()
