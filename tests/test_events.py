"""Events, cursors and merging: tables and properties."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadCursor
from server.events import (
    Aborted,
    AbortReason,
    Bytes,
    Content,
    Cursor,
    Done,
    Error,
    Merged,
    Reasoning,
    ToolCall,
    decode,
    encode,
    merge,
)  # fmt: skip

EVENTS = {
    b'{"type":"content","content":"Hel"}': Content("Hel"),
    b'{"type":"reasoning","content":"hm"}': Reasoning("hm"),
    b'{"type":"tool_call","index":0,"id":"call_1","name":"search","arguments":"{\\"q\\":"}': ToolCall(
        0, "call_1", "search", '{"q":'
    ),
    b'{"type":"bytes","data":"AAE="}': Bytes(b"\x00\x01"),
    b'{"type":"done","finish_reason":"stop","usage":{"prompt_tokens":20}}': Done(
        "stop", {"prompt_tokens": 20}
    ),
    b'{"type":"done","finish_reason":"length"}': Done("length"),
    b'{"type":"aborted","reason":"user"}': Aborted(AbortReason.USER),
    b'{"type":"error","code":"upstream_stall","message":"m","retryable":true}': Error(
        "upstream_stall", "m", True
    ),
}


@pytest.mark.parametrize("line", EVENTS)
def test_an_event_is_one_line_of_json_and_reads_back(line):
    assert encode(EVENTS[line]) == line
    assert decode(line) == EVENTS[line]


DEEP = "[" * 300 + "]" * 300


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"done","usage":{"a":18446744073709551616}}',
        f'{{"type":"done","usage":{{"a":{DEEP}}}}}',
        '{"type":"tool_call","index":2147483648}',
        '{"type":"error","code":"x","message":"","retryable":true,"retry_after":1e307}',
        '{"type":"error","code":"x","message":"","retryable":true,"retry_after":-1}',
    ],
)
def test_what_not_every_format_can_tell_is_no_event(line):
    with pytest.raises(msgspec.ValidationError):
        decode(line.encode())


def test_a_usage_has_to_be_one_that_can_be_told():
    with pytest.raises(ValueError, match="cannot be told"):
        Done(usage={"a": 1 << 64})


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_no_text_breaks_out_of_its_line(text):
    line = encode(Content(text))
    assert b"\n" not in line
    assert b"\r" not in line
    assert decode(line) == Content(text)


@pytest.mark.parametrize(
    "text",
    ["", "42", "-1", "1-", "1--2", " 1-2", "1-2\n", "01-2", "1-02", "+1-2", "1-2-3", "٣-٤",
     "9" * 17 + "-1", "1-2\x00", "a-b", "1.5-2"],
)  # fmt: skip
def test_garbage_is_no_cursor(text):
    with pytest.raises(BadCursor):
        Cursor.parse(text)


@given(st.integers(0, 10**16 - 1), st.integers(0, 10**16 - 1))
def test_a_cursor_reads_back(epoch, seq):
    assert Cursor.parse(str(Cursor(epoch, seq))) == (epoch, seq)


def test_merging_joins_neighbours_of_one_text_type_only():
    call = ToolCall(0, arguments="x")
    events = [Content("a"), Content("b"), Reasoning("c"), call, call, Content("d"), Done()]
    assert merge(events) == [
        Merged(Content("ab"), 2), Merged(Reasoning("c"), 1), Merged(call, 1), Merged(call, 1),
        Merged(Content("d"), 1), Merged(Done(), 1),
    ]  # fmt: skip


_any_event = st.one_of(
    st.builds(Content, st.text("ab\n", max_size=3)),
    st.builds(Reasoning, st.text("cd", max_size=3)),
    st.builds(ToolCall, st.integers(0, 2)),
)


@given(st.lists(_any_event))
def test_merging_loses_nothing(events):
    merged = merge(events)

    def texts(kind, items):
        return "".join(e.content for e in items if isinstance(e, kind))

    assert sum(item.n for item in merged) == len(events)
    for kind in (Content, Reasoning):
        assert texts(kind, [item.event for item in merged]) == texts(kind, events)
