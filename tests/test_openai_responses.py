"""A log as a response: event by event, as an object, and the request as a chat's body."""

import orjson
import pytest

from server.errors import InvalidRequest
from server.events import Aborted, AbortReason, Content, Done, Error, Event, Reasoning, ToolCall
from server.wire.openai_input import chat_body, echo
from server.wire.openai_responses import Responses

SID = "s" * 22
DIALECT = Responses(SID, "m", 7, b'{"instructions":"Be brief.","background":true}')
OBJECT = {
    "id": f"resp_{SID}", "object": "response", "created_at": 7, "status": "in_progress", "model": "m",
    "background": True, "error": None, "incomplete_details": None, "instructions": "Be brief.",
    "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True, "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None}, "store": True, "temperature": None,
    "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": None,
    "truncation": "disabled", "user": None, "output": [], "usage": None,
}  # fmt: skip


def parts_of(*events: Event) -> list[dict]:
    """Return what follows `response.created` and `response.in_progress`."""
    state, opening = DIALECT.begin()
    created, in_progress = map(orjson.loads, opening)
    assert created == {"type": "response.created", "response": OBJECT}
    assert in_progress == {"type": "response.in_progress", "response": OBJECT}
    parts: list[bytes] = []
    for event in events:
        state, more = DIALECT.step(state, event)
        parts += more
    return [orjson.loads(part) for part in parts]


def output_of(*events: Event):
    state, _ = DIALECT.begin()
    for event in events:
        state, _ = DIALECT.step(state, event)
    return state


def text_part(text):
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message(at, status, *texts):
    content = [text_part(text) for text in texts]
    head = {"id": f"msg_{SID}_{at}", "type": "message", "status": status}
    return head | {"role": "assistant", "content": content}


def thought(at, status, *texts):
    content = [{"type": "reasoning_text", "text": text} for text in texts]
    head = {"id": f"rs_{SID}_{at}", "type": "reasoning", "status": status}
    return head | {"summary": [], "content": content}


def call(at, status, id, name, arguments):
    head = {"id": f"fc_{SID}_{at}", "type": "function_call", "status": status}
    return head | {"call_id": id, "name": name, "arguments": arguments}


def added(at, item):
    return {"type": "response.output_item.added", "output_index": at, "item": item}


def done(at, item):
    return {"type": "response.output_item.done", "output_index": at, "item": item}


def of(kind, item, at, **more):
    return {"type": f"response.{kind}", "item_id": item["id"], "output_index": at, **more}


def test_text_is_a_message_that_begins_grows_and_ends():
    item = message(0, "in_progress")
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    assert parts_of(Content("a"), Content("b"), Done(usage=usage)) == [
        added(0, item),
        of("content_part.added", item, 0, content_index=0, part=text_part("")),
        of("output_text.delta", item, 0, content_index=0, delta="a", logprobs=[]),
        of("output_text.delta", item, 0, content_index=0, delta="b", logprobs=[]),
        of("output_text.done", item, 0, content_index=0, text="ab", logprobs=[]),
        of("content_part.done", item, 0, content_index=0, part=text_part("ab")),
        done(0, message(0, "completed", "ab")),
        {
            "type": "response.completed",
            "response": OBJECT
            | {
                "status": "completed",
                "output": [message(0, "completed", "ab")],
                "usage": {
                    "input_tokens": 3,
                    "input_tokens_details": {"cached_tokens": 1},
                    "output_tokens": 2,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": 5,
                },
            },
        },
    ]


def test_thoughts_end_when_the_answer_begins():
    item = thought(0, "in_progress")
    part = {"type": "reasoning_text", "text": "hm"}
    parts = parts_of(Reasoning("hm"), Content("a"))
    assert parts[2:7] == [
        of("reasoning_text.delta", item, 0, content_index=0, delta="hm"),
        of("reasoning_text.done", item, 0, content_index=0, text="hm"),
        of("content_part.done", item, 0, content_index=0, part=part),
        done(0, thought(0, "completed", "hm")),
        added(1, message(1, "in_progress")),
    ]


def test_calls_whose_pieces_are_mixed_are_kept_apart_and_end_with_the_log():
    first, second = call(0, "in_progress", "c0", "f", ""), call(1, "in_progress", "c1", "g", "")
    parts = parts_of(
        ToolCall(0, "c0", "f", "{"),
        ToolCall(1, "c1", "g", "[]"),
        ToolCall(0, arguments="}"),
        Done("tool_calls"),
    )
    whole = [call(0, "completed", "c0", "f", "{}"), call(1, "completed", "c1", "g", "[]")]
    assert parts == [
        added(0, first),
        of("function_call_arguments.delta", first, 0, delta="{"),
        added(1, second),
        of("function_call_arguments.delta", second, 1, delta="[]"),
        of("function_call_arguments.delta", first, 0, delta="}"),
        of("function_call_arguments.done", first, 0, name="f", arguments="{}"),
        done(0, whole[0]),
        of("function_call_arguments.done", second, 1, name="g", arguments="[]"),
        done(1, whole[1]),
        {
            "type": "response.completed",
            "response": OBJECT | {"status": "completed", "output": whole},
        },
    ]


@pytest.mark.parametrize(
    ("final", "kind", "facts", "item"),
    [
        (
            Done("length"),
            "incomplete",
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "incomplete",
        ),
        (
            Aborted(AbortReason.LIMIT),
            "incomplete",
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "incomplete",
        ),
        (Aborted(AbortReason.USER), "incomplete", {"status": "cancelled"}, "incomplete"),
        (
            Error("upstream_rate_limited", "Busy.", True, 429),
            "failed",
            {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "Busy."}},
            "incomplete",
        ),
        (
            Error("upstream_stall", "It stopped.", True),
            "failed",
            {"status": "failed", "error": {"code": "server_error", "message": "It stopped."}},
            "incomplete",
        ),
    ],
)
def test_what_is_not_whole_is_never_completed(final, kind, facts, item):
    *_, last = parts_of(Content("a"), final)
    response = OBJECT | facts | {"output": [message(0, item, "a")]}
    assert last == {"type": f"response.{kind}", "response": response}
    assert DIALECT.response(output_of(Content("a"), final)) == response


def test_the_object_grows_with_the_log():
    assert DIALECT.response(output_of()) == OBJECT
    item = message(0, "in_progress", "a")
    assert DIALECT.response(output_of(Content("a")))["output"] == [item]


def test_the_bytes_are_named_events_numbered_from_0():
    encoding = DIALECT.encoding(SID)
    created = orjson.dumps({"type": "response.created", "response": OBJECT})[:-1]
    _, opening = encoding.place(None, 0, 0)
    first = b'event: response.created\ndata: %b,"sequence_number":0}\n\n' % created
    assert opening.startswith(first + b"event: response.in_progress\ndata: {")
    assert opening.endswith(b',"sequence_number":1}\n\n')


FUNCTION = {"name": "f", "parameters": {"type": "object"}, "strict": True}
REQUESTS = {
    "text": (
        {"input": "hi", "seed": 1, "stream": True, "background": True, "store": False},
        {"messages": [{"role": "user", "content": "hi"}], "seed": 1},
    ),
    "a talk": (
        {
            "instructions": "Be brief.",
            "input": [
                {"role": "developer", "content": "x"},
                {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {"type": "reasoning", "summary": []},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "b"}],
                },
                {"type": "function_call", "call_id": "c0", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "[]"},
                {"type": "function_call_output", "call_id": "c0", "output": "1"},
            ],
        },
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "system", "content": "x"},
                {"role": "user", "content": "a"},
                {
                    "role": "assistant",
                    "content": "b",
                    "tool_calls": [
                        {"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "[]"}},
                    ],
                },
                {"role": "tool", "tool_call_id": "c0", "content": "1"},
            ],
        },
    ),
    "a picture": (
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": "data:x", "detail": "low"},
                    ],
                }
            ]
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
                    ],
                }
            ]
        },
    ),
    "options": (
        {
            "input": "hi",
            "max_output_tokens": 5,
            "tools": [{"type": "function", **FUNCTION}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
            "reasoning": {"effort": "low"},
        },
        {
            "messages": [{"role": "user", "content": "hi"}],
            "max_completion_tokens": 5,
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
            "verbosity": "low",
            "reasoning_effort": "low",
        },
    ),
}


@pytest.mark.parametrize(("body", "chat"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_asks_a_chat_the_same(body, chat):
    assert chat_body(body) == chat


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": []},
        {"input": 1},
        {"input": [1]},
        {"input": "x", "previous_response_id": "resp_1"},
        {"input": "x", "instructions": 1},
        {"input": "x", "text": "json"},
        {"input": "x", "text": {"format": "json"}},
        {"input": "x", "tools": {}},
        {"input": "x", "tools": [{"type": "web_search"}]},
        {"input": "x", "tool_choice": {"type": "web_search"}},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"role": "user", "content": 1}]},
        {"input": [{"content": "x"}]},
        {"input": [{"role": ["user"], "content": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
    ],
)
def test_what_cannot_be_done_is_refused(body):
    with pytest.raises(InvalidRequest):
        chat_body(body)


def test_the_echo_is_small():
    body = {"input": "x", "instructions": "i", "tools": [{"type": "function"}], "background": True}
    assert echo(body) == {
        "instructions": "i",
        "tools": [{"type": "function"}],
        "background": True,
    }
    assert echo(body | {"tools": ["x" * 9000]}) == {"instructions": "i", "background": True}
    assert echo(body | {"instructions": "x" * 9000}) == {"background": True}
