"""Anthropic's stream to events, however the bytes are cut."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTruncated,
)
from server.events import Content, Done, Reasoning, ToolCall
from server.upstream.message_events import MessageStream, usage_of
from tests.upstream.messages import (
    PING,
    START,
    STOP,
    USAGE,
    block,
    close,
    delta,
    error,
    event,
    stream,
    text,
)


def read(*pieces):
    """Return the events of a stream, and its end last."""
    events = []
    reader = MessageStream(events.append)
    for piece in pieces:
        if reader.feed(piece):
            break
    return [*events, reader.finish()]


THOUGHT = block(
    0, "thinking", delta(0, "thinking_delta", thinking="hm"), delta(0, "signature_delta", signature="s"),
    thinking="", signature="",
)  # fmt: skip
SEARCH = block(
    1, "tool_use", delta(1, "input_json_delta", partial_json=""),
    delta(1, "input_json_delta", partial_json='{"q":'), delta(1, "input_json_delta", partial_json='"x"}'),
    id="t1", name="search", input={},
)  # fmt: skip
NOW = block(2, "tool_use", id="t2", name="now", input={})
GIVEN = block(0, "tool_use", id="t3", name="f", input={"a": 1})
SERVERS = block(
    0, "server_tool_use", delta(0, "input_json_delta", partial_json='{"query":"x"}'), id="s1",
    name="web_search", input={},
)  # fmt: skip
CITED = delta(0, "citations_delta", citation={"type": "char_location"})

TABLE = {
    "text": (stream(text(0, "Hel", "lo")), [Content("Hel"), Content("lo"), Done("stop", USAGE)]),
    "thinking": (stream(THOUGHT, text(1, "so")), [Reasoning("hm"), Content("so"), Done("stop", USAGE)]),
    "tools": (
        stream(text(0, "a"), SEARCH, NOW, reason="tool_use"),
        [
            Content("a"),
            ToolCall(0, "t1", "search"), ToolCall(0, None, None, '{"q":'),
            ToolCall(0, None, None, '"x"}'),
            ToolCall(1, "t2", "now"), ToolCall(1, None, None, "{}"),
            Done("tool_calls", USAGE),
        ],
    ),
    "a tool's input at once": (
        stream(GIVEN, reason="tool_use"), [ToolCall(0, "t3", "f", '{"a":1}'), Done("tool_calls", USAGE)],
    ),
    "text at once": (stream(block(0, "text", text="all")), [Content("all"), Done("stop", USAGE)]),
    "the server's own": (stream(SERVERS, CITED, text(1, "a")), [Content("a"), Done("stop", USAGE)]),
    "unknown kinds": (
        stream(event("surprise", index=9), block(0, "surprise"), delta(0, "surprise", x=1), text(1, "a")),
        [Content("a"), Done("stop", USAGE)],
    ),
    "nothing": (stream(), [Done("stop", USAGE)]),
    "after the end": (stream(text(0, "a")) + text(1, "junk") + b"data: {bad\n\n" + STOP, [
        Content("a"), Done("stop", USAGE),
    ]),
    "no end but its reason": (START + text(0, "a") + close("max_tokens"), [
        Content("a"), Done("length", USAGE),
    ]),
    "no counts": (text(0, "é🙂") + STOP, [Content("é🙂"), Done("stop")]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_table_at_every_two_way_split_and_byte_by_byte(name):
    whole, events = TABLE[name]
    assert read(whole) == events
    for at in range(len(whole)):
        assert read(whole[:at], whole[at:]) == events
    assert read(*(bytes([byte]) for byte in whole)) == events
    assert read(whole.replace(b"\n", b"\r\n")) == events


@given(st.lists(st.text(), max_size=5), st.data())
def test_any_text_at_any_split(pieces, data):
    whole = stream(text(0, *pieces))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(*parts) == [*(Content(p) for p in pieces if p), Done("stop", USAGE)]


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_why_it_stopped_is_said_as_openai_does(reason, word):
    assert read(stream(reason=reason))[-1].finish_reason == word


FAILURES = {
    "overloaded_error": UpstreamRateLimited,
    "rate_limit_error": UpstreamRateLimited,
    "invalid_request_error": UpstreamRejected,
    "authentication_error": UpstreamRejected,
    "api_error": UpstreamFailed,
    "something_new": UpstreamFailed,
}


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("before", [b"", START + PING + text(0, "a")])
def test_a_reported_error_is_typed_and_its_words_are_kept_back(kind, before):
    events = []
    reader = MessageStream(events.append)
    with pytest.raises(UpstreamFailed) as raised:
        list(map(reader.feed, [before, error(kind), STOP]))
    assert (type(raised.value), "sk-" in str(raised.value)) == (FAILURES[kind], False)
    assert events == ([Content("a")] if before else [])


DEEP = b'{"type":"ping","x":%b}' % (b"[" * 3000 + b"]" * 3000)


@pytest.mark.parametrize(
    "junk", [b"{nonsense", b"[]", b"{}", b'{"type":"content_block_delta","delta":5}', b"\xff", DEEP]
)
def test_what_is_not_the_protocol_is_invalid(junk):
    with pytest.raises(UpstreamInvalid):
        read(START, b"data: %b\n\n" % junk)


@pytest.mark.parametrize("cut", [b"", START, START + text(0, "a"), START + PING])
def test_an_end_that_nobody_announced_is_truncated(cut):
    with pytest.raises(UpstreamTruncated):
        read(cut)


def whole(body):
    events = []
    reader = MessageStream(events.append)
    reader.take_whole(orjson.dumps(body))
    return [*events, reader.finish()]


def test_an_answer_that_was_not_streamed():
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]
    answer = {"type": "message", "content": blocks, "stop_reason": "tool_use"}
    assert whole(answer | {"usage": {"input_tokens": 1, "output_tokens": 2}}) == [
        Reasoning("hm"), Content("a"), ToolCall(0, "t", "f"), ToolCall(0, None, None, "{}"),
        Done("tool_calls", {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"type": "error", "error": {"type": "overloaded_error"}}, UpstreamRateLimited),
        ({"type": "message"}, UpstreamInvalid),
        ([], UpstreamInvalid),
        ({"content": 5}, UpstreamInvalid),
    ],
)
def test_a_body_that_is_no_answer(body, kind):
    with pytest.raises(UpstreamFailed) as raised:
        whole(body)
    assert type(raised.value) is kind


def test_no_counts_are_no_usage():
    assert usage_of({}) is None


@pytest.mark.parametrize("count", [-1, 1 << 53, 10**30])
def test_a_count_that_nothing_could_have_is_none(count):
    said = event("message_delta", delta={}, usage={"output_tokens": 9}).replace(b"9", b"%d" % count)
    assert read(START, close("end_turn"), said, STOP) == read(START, close("end_turn"), STOP)
