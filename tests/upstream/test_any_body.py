"""Bodies of every kind to events, however the bytes are cut."""

import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamTruncated,
)
from server.events import Bytes, Content, Done, Reasoning, ToolCall, merge
from server.upstream.any_body import LineParser, kind_of, reader_of
from server.upstream.sse_parser import MAX_EVENT

SSE, NDJSON, TEXT, JSON = "text/event-stream", "application/x-ndjson", "text/plain", "application/json"


def read(kind, *pieces, whole=True):
    """Return the events of a body, and its end last."""
    events = []
    reader = reader_of(kind, events.append, whole)
    for piece in pieces:
        if reader.feed(piece):
            break
    end = reader.finish()
    return [*events, end]


def failure(kind, *pieces, whole=True):
    """Return the events before the failure, and what that is."""
    events = []
    reader = reader_of(kind, events.append, whole)
    with pytest.raises(UpstreamFailed) as raised:
        any(reader.feed(piece) for piece in pieces)
        reader.finish()
    return events, raised.value


def sse(*items):
    return b"".join(b"data: %b\n\n" % (i if isinstance(i, bytes) else orjson.dumps(i)) for i in items)


def lines(*items):
    return b"".join(orjson.dumps(item) + b"\n" for item in items)


def chunk(text=None, finish=None, **more):
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]} | more


DEEP = b"[" * 3000 + b"]" * 3000
TALLY = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
AB = [Content("a"), Content("b")]
WORKERS = sse({"response": "a", "p": "x"}, {"response": "b"}, {"response": "", "usage": TALLY}, b"[DONE]")
OLLAMA = lines(
    {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
    {"message": {"content": "a"}, "done": False},
    {"message": {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}},
    {"message": {"content": ""}, "done": True, "done_reason": "length",
     "prompt_eval_count": 2, "eval_count": 3},
)  # fmt: skip
TGI = sse(
    {"token": {"text": "a", "special": False}, "generated_text": None},
    {"token": {"text": "b"}, "generated_text": None},
    {"token": {"text": "</s>", "special": True}, "generated_text": "ab",
     "details": {"finish_reason": "eos_token"}},
)  # fmt: skip
OURS = lines(
    {"id": "1-1", "type": "content", "content": "a"},
    {"id": "1-2", "type": "bytes", "data": "AAE="},
    {"id": "1-3", "type": "done", "finish_reason": "length"},
)

TABLE = {
    "workers ai": (SSE, WORKERS, [*AB, Done("stop", TALLY)]),
    "ollama": (NDJSON, OLLAMA, [
        Reasoning("hm"), Content("a"), ToolCall(0, None, "f", '{"x":1}'), Done("length", TALLY),
    ]),
    "ollama's generate": (
        NDJSON, lines({"response": "a", "done": False}, {"response": "b", "done": True}), [*AB, Done()],
    ),
    "text generation inference": (SSE, TGI, [*AB, Done()]),
    "llama.cpp": (
        SSE, sse({"content": "a", "stop": False}, {"content": "b", "stop": True, "stop_type": "limit"}),
        [*AB, Done("length")],
    ),
    "openai": (
        SSE, sse(chunk("a"), chunk("b", "tool_calls"), {"choices": [], "usage": TALLY}, b"[DONE]"),
        [*AB, Done("tool_calls", TALLY)],
    ),
    "openai's completions": (
        SSE, sse({"choices": [{"text": "a"}]}, {"choices": [{"text": "b", "finish_reason": "length"}]}),
        [*AB, Done("length")],
    ),
    "ours": (NDJSON, OURS, [Content("a"), Bytes(b"\0\1"), Done("length")]),
    "small servers": (SSE, sse({"text": "a"}, {"delta": "b"}), [*AB, Done()]),
    "an unknown shape": (NDJSON, b'{"x": [1]}\n', [Content('{"x": [1]}'), Done()]),
    "texts": (SSE, b"data: a\n\ndata:  b\n\ndata: {c\n\n", [
        Content("a"), Content(" b"), Content("{c"), Done(),
    ]),
    "texts with an end": (SSE, b"data: a\n\ndata: b\n\ndata: [DONE]\n\ndata: c\n\n", [*AB, Done()]),
    "a last line without an end": (NDJSON, b'\n{"text":"a"}\r\n\n{"text":"b"}', [*AB, Done()]),
    "a line that ends it": (NDJSON, lines({"type": "done"}, {"text": "no more"}), [Done()]),
    "nothing": (SSE, b": hello\n\n", [Done()]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_table_at_every_two_way_split_and_byte_by_byte(name):
    kind, body, events = TABLE[name]
    assert read(kind, body) == events
    for at in range(len(body)):
        assert read(kind, body[:at], body[at:]) == events
    assert read(kind, *(bytes([byte]) for byte in body)) == events


@pytest.mark.parametrize("kind", [NDJSON, SSE])
@given(pieces=st.lists(st.text(), max_size=5), data=st.data())
def test_any_text_at_any_split(kind, pieces, data):
    values = [{"response": piece} for piece in pieces]
    body = lines(*values) if kind == NDJSON else sse(*values)
    assert read(kind, *cut(body, data)) == [*(Content(p) for p in pieces if p), Done()]


@given(st.text(), st.data())
def test_text_is_the_same_wherever_it_is_cut(text, data):
    *events, end = read(f"{TEXT}; charset=utf-8", *cut(text.encode(), data))
    assert (merge(events)[0].event if text else None, end) == (Content(text) if text else None, Done())


@given(st.binary(), st.data())
def test_bytes_are_the_same_wherever_they_are_cut(body, data):
    *events, end = read("audio/mpeg", *(piece for piece in cut(body, data) if piece))
    assert (b"".join(event.data for event in events), end) == (body, Done())
    assert [event.content_type for event in events] == ["audio/mpeg", *[None] * len(events)][
        : len(events)
    ]


def cut(body, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def test_text_is_of_its_charset():
    assert read("Text/Plain; Charset=latin-1", b"\xe9") == [Content("é"), Done()]
    for kind, body in [(TEXT, b"a\xff"), (TEXT, b"a\xc3"), ("text/plain; charset=x-none", b"a")]:
        with pytest.raises(UpstreamInvalid):
            read(kind, body)


NO_CHARSETS = [
    "zlib", "bz2", "hex", "base64", "uu", "rot13", "undefined", "idna", "punycode", "unicode_escape",
    "raw_unicode_escape",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_CHARSETS)
def test_what_python_can_decode_besides_is_no_charset(name):
    with pytest.raises(UpstreamInvalid):
        read(f"text/plain; charset={name}", zlib.compress(bytes(1000)))


KINDS = [
    ("", ("text/plain", "utf-8")),
    ("text", ("text/plain", "utf-8")),
    (' Text/HTML ;x=1; Charset = "Latin-1"', ("text/html", "latin-1")),
    ("text/plain; charset*=utf-8''a; charset*0*=b", ("text/plain", "utf-8")),
    ("text/plain; charset=", ("text/plain", "utf-8")),
    ("text/plain; charset=a\0b", ("text/plain", "a")),
    ("image/\udcff; charset=\u2038", ("image/\udcff", "utf-8")),
]


@pytest.mark.parametrize(("given", "kind"), KINDS)
def test_any_content_type_is_of_some_kind(given, kind):
    assert kind_of(given) == kind


DOCUMENTS = [
    ({"result": {"response": "a", "usage": TALLY}, "success": True}, [Content("a"), Done("stop", TALLY)]),
    ({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}, [Content("a"), Done()]),
    ({"message": {"content": "a"}, "done": True}, [Content("a"), Done()]),
    ({"x": 1}, [Content('{"x":1}'), Done()]),
]


@pytest.mark.parametrize(("document", "events"), DOCUMENTS)
def test_a_document_is_read_as_a_whole(document, events):
    body = orjson.dumps(document)
    assert read(JSON, body[:5], body[5:]) == events


@pytest.mark.parametrize("kind", [[], {}, 5, None])
def test_a_type_that_is_no_word_is_no_event_of_ours(kind):
    assert read(NDJSON, lines({"type": kind, "text": "a"})) == [Content("a"), Done()]


@pytest.mark.parametrize("counts", [b"18446744073709551616", b"[" * 300 + b"]" * 300])
def test_a_usage_that_could_not_be_told_is_left_out(counts):
    body = b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"total_tokens":%b}}\n' % counts
    assert read(NDJSON, body) == [Done()]


TRUNCATED = [
    (SSE, sse(chunk("a")), True, [Content("a")]),
    (NDJSON, lines({"response": "a", "done": False}), True, [Content("a")]),
    (NDJSON, lines({"type": "content", "content": "a"}), True, [Content("a")]),
    (SSE, sse({"response": "a"}), False, [Content("a")]),
    (NDJSON, lines({"text": "a"}), False, [Content("a")]),
    (TEXT, b"a", False, [Content("a")]),
    ("audio/mpeg", b"a", False, [Bytes(b"a", "audio/mpeg")]),
    (JSON, b"{}", False, []),
]


@pytest.mark.parametrize(("kind", "body", "whole", "events"), TRUNCATED)
def test_an_end_that_nobody_announced_is_truncated(kind, body, whole, events):
    before, error = failure(kind, body, whole=whole)
    assert (before, type(error)) == (events, UpstreamTruncated)


@pytest.mark.parametrize("kind", [SSE, NDJSON])
def test_an_end_in_the_body_needs_no_other(kind):
    values = [{"response": "a"}, {"response": "", "done": True}]
    body = sse(*values) if kind == SSE else lines(*values)
    assert read(kind, body, whole=False) == [Content("a"), Done()]


FAILURES = [
    (NDJSON, lines({"text": "a"}, {"error": "model sk-1 not found"}), UpstreamFailed),
    (SSE, sse({"text": "a"}, {"error": {"code": 429}}), UpstreamRateLimited),
    (SSE, sse({"text": "a"}) + b'event: error\ndata: {"message":"sk-1"}\n\n', UpstreamFailed),
    (SSE, b"data: a\n\nevent: error\ndata: sk-1\n\n", UpstreamFailed),
    (NDJSON, lines({"text": "a"}, {"type": "error", "code": "x", "message": "sk-1", "retryable": True}),
     UpstreamFailed),
    (NDJSON, lines({"text": "a"}, {"type": "aborted", "reason": "user"}), UpstreamFailed),
    (NDJSON, lines({"text": "a"}) + b"{nonsense\n", UpstreamInvalid),
    (NDJSON, lines({"text": "a"}, []), UpstreamInvalid),
    (NDJSON, lines({"text": "a"}) + b'{"a":%b}\n' % DEEP, UpstreamInvalid),
    (SSE, sse(chunk("a")) + b'data: {"choices":[],"a":%b}\n\n' % DEEP, UpstreamInvalid),
    (NDJSON, lines({"text": "a"}, {"choices": [{"delta": {"tool_calls": [{"index": 1 << 31}]}}]}),
     UpstreamInvalid),
    (NDJSON, lines({"text": "a"}, {"message": {"content": 5}}), UpstreamInvalid),
    (SSE, sse({"text": "a"}, b"nonsense"), UpstreamInvalid),
    (SSE, b"data: a\n\ndata: \xff\n\n", UpstreamInvalid),
    (NDJSON, lines({"text": "a"}) + b"x" * (MAX_EVENT + 1), UpstreamInvalid),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "error"), FAILURES)
def test_a_failure_is_typed_and_comes_after_what_was_before_it(kind, body, error):
    before, raised = failure(kind, body)
    assert (before, type(raised), "sk-" in str(raised)) == ([Content("a")], error, False)


@pytest.mark.parametrize("body", [b"", b"{nonsense", b"[]", b'"' + b"x" * MAX_EVENT + b'"'])
def test_a_document_that_is_none(body):
    assert type(failure(JSON, body)[1]) is UpstreamInvalid


_BITS = st.sampled_from([b"x", b"xyz", b"\r", b"\n", b"\n\n", b" "])


@given(st.lists(_BITS, max_size=12), st.integers(1, 6))
def test_lines_byte_by_byte_are_the_whole_and_fail_in_the_same_place(bits, limit):
    body = b"".join(bits)
    by_byte = outcome(limit, *(bytes([byte]) for byte in body))
    for at in range(len(body) + 1):
        assert outcome(limit, body[:at], body[at:]) == by_byte


def outcome(limit, *pieces):
    """Return every line, and None at the end if the body was refused."""
    parser, found = LineParser(limit), []
    try:
        for piece in pieces:
            found += parser.feed(piece)
        found += parser.end()
    except UpstreamInvalid:
        found.append(None)
    return found
