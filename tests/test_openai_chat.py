"""A log as a chat completion: chunk by chunk, and whole."""

import orjson
import pytest

from server.errors import Conflict, StoreUnavailable, TokenwireError, UpstreamRejected
from server.events import Aborted, AbortReason, Content, Done, Error, Event, Reasoning, ToolCall
from server.wire.openai_chat import Chat
from server.wire.openai_errors import of_error, of_final

SID = "s" * 22
CHAT = Chat(SID, "m", 7)
HEAD = {"id": f"chatcmpl-{SID}", "object": "chat.completion.chunk", "created": 7, "model": "m"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return HEAD | {"choices": [choice]} | more


def error(message, kind, code):
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def call(index, function, **more):
    return {"tool_calls": [{"index": index, **more, "function": function}]}


def parts_of(dialect: Chat, *events: Event) -> list:
    state, parts = dialect.begin()
    for event in events:
        state, more = dialect.step(state, event)
        parts = [*parts, *more]
    return [part if part == b"[DONE]" else orjson.loads(part) for part in parts]


ROLE = {"role": "assistant"}
TABLE = {
    "text": (
        [Content("a"), Content("b"), Done(usage=USAGE)],
        [chunk(ROLE | {"content": "a"}), chunk({"content": "b"}), chunk({}, "stop"), b"[DONE]"],
    ),
    "nothing": ([Done()], [chunk(ROLE | {"content": ""}, "stop"), b"[DONE]"]),
    "thoughts": (
        [Reasoning("hm"), Content("a"), Done("length")],
        [
            chunk(ROLE | {"reasoning_content": "hm"}),
            chunk({"content": "a"}),
            chunk({}, "length"),
            b"[DONE]",
        ],
    ),
    "calls": (
        [
            ToolCall(0, "c0", "f", ""),
            ToolCall(1, "c1", "g", "{"),
            ToolCall(0, "c0", "f", "{}"),
            ToolCall(1, arguments="}"),
            Done("tool_calls"),
        ],
        [
            chunk(ROLE | call(0, {"name": "f", "arguments": ""}, id="c0", type="function")),
            chunk(call(1, {"name": "g", "arguments": "{"}, id="c1", type="function")),
            chunk(call(0, {"arguments": "{}"})),
            chunk(call(1, {"arguments": "}"})),
            chunk({}, "tool_calls"),
            b"[DONE]",
        ],
    ),
    "a call of old": (
        [ToolCall(0, None, None, "{"), ToolCall(0, None, "f", "}"), Done("function_call")],
        [
            chunk(ROLE | call(0, {"arguments": "{"}, id=f"call_{SID}_0", type="function")),
            chunk(call(0, {"name": "f", "arguments": "}"})),
            chunk({}, "tool_calls"),
            b"[DONE]",
        ],
    ),
    "a failure": (
        [Content("a"), Error("upstream_stall", "It stopped.", True)],
        [chunk(ROLE | {"content": "a"}), error("It stopped.", "server_error", "upstream_stall")],
    ),
    "a rate limit": (
        [Error("upstream_rate_limited", "Busy.", True, 429, 2)],
        [error("Busy.", "rate_limit_error", "upstream_rate_limited")],
    ),
    "a user's abort": (
        [Content("a"), Aborted(AbortReason.USER)],
        [
            chunk(ROLE | {"content": "a"}),
            error("The answer was aborted by a user.", "conflict_error", "aborted"),
        ],
    ),
    "a limit": (
        [Content("a"), Aborted(AbortReason.LIMIT)],
        [chunk(ROLE | {"content": "a"}), chunk({}, "length"), b"[DONE]"],
    ),
}


@pytest.mark.parametrize(("events", "parts"), TABLE.values(), ids=TABLE)
def test_a_log_is_these_chunks(events, parts):
    assert parts_of(CHAT, *events) == parts


def test_usage_is_the_last_chunk_if_it_was_asked_for():
    dialect = Chat(SID, "m", 7, include_usage=True)
    assert parts_of(dialect, Content("a"), Done(usage=USAGE)) == [
        chunk(ROLE | {"content": "a"}, usage=None),
        chunk({}, "stop", usage=None),
        HEAD | {"choices": [], "usage": USAGE},
        b"[DONE]",
    ]
    assert parts_of(dialect, Done())[1:] == [b"[DONE]"]


def test_the_bytes_are_unnamed_events_with_the_cursor_as_id():
    from server.events import encode
    from server.session.log import Entry, Log

    log = Log([Entry(7, 1, 1), Entry(7, 1, 2, (encode(Content("a")), encode(Done())), final=True)])
    first, last = orjson.dumps(chunk(ROLE | {"content": "a"})), orjson.dumps(chunk({}, "stop"))
    assert CHAT.encoding(SID).slice(log, 0, 2) == (
        b"id: 7-1\ndata: %b\n\ndata: %b\n\nid: 7-2\ndata: [DONE]\n\n" % (first, last)
    )


def completion(message, finish, usage=None):
    answer = {"role": "assistant", "content": None, "refusal": None} | message
    choice = {"index": 0, "message": answer, "logprobs": None, "finish_reason": finish}
    return HEAD | {"object": "chat.completion", "choices": [choice], "usage": usage}


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        ([Content("a"), Content("b"), Done(usage=USAGE)], completion({"content": "ab"}, "stop", USAGE)),
        ([Done()], completion({"content": ""}, "stop")),
        ([Content("a"), Aborted(AbortReason.LIMIT)], completion({"content": "a"}, "length")),
        (
            [Reasoning("h"), Reasoning("m"), Content("a"), Done()],
            completion({"content": "a", "reasoning_content": "hm"}, "stop"),
        ),
        (
            [
                ToolCall(1, "c1", "g", "{}"),
                ToolCall(0, "c0", "f", '{"a'),
                ToolCall(0, None, None, '":1}'),
                Done("tool_calls"),
            ],
            completion(
                {
                    "tool_calls": [
                        {
                            "id": "c0",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a":1}'},
                        },
                        {"id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    ]
                },
                "tool_calls",
            ),
        ),
    ],
)
def test_a_whole_log_is_one_answer(events, answer):
    assert CHAT.completion(events) == answer


@pytest.mark.parametrize(
    ("final", "status", "headers"),
    [
        (
            Error("upstream_rate_limited", "", True, 429, 2),
            429,
            {"x-should-retry": "true", "Retry-After": "2", "Retry-After-Ms": "2000"},
        ),
        (Error("upstream_rate_limited", "", True, 503), 503, {"x-should-retry": "true"}),
        (Error("upstream_rate_limited", "", True), 429, {"x-should-retry": "true"}),
        (Error("upstream_error", "", True, 500), 500, {"x-should-retry": "true"}),
        (Error("upstream_rejected", "", False, 404), 404, {"x-should-retry": "false"}),
        (Error("upstream_rejected", "", False, 302), 502, {"x-should-retry": "false"}),
        (Error("upstream_rejected", "", False), 400, {"x-should-retry": "false"}),
        (Error("upstream_stall", "", True), 504, {"x-should-retry": "true"}),
        (Error("upstream_invalid", "", False), 502, {"x-should-retry": "false"}),
        (Error("producer_lost", "", True), 503, {"x-should-retry": "true"}),
        (Error("something_new", "", True), 502, {"x-should-retry": "true"}),
        (Aborted(AbortReason.USER), 409, {"x-should-retry": "false"}),
        (Aborted(AbortReason.ORPHANED), 409, {"x-should-retry": "true"}),
        (Aborted(AbortReason.SHUTDOWN), 503, {"x-should-retry": "true"}),
    ],
)
def test_a_failure_has_the_upstreams_own_status_or_that_of_its_code(final, status, headers):
    failure = of_final(final)
    assert (failure.status, failure.headers()) == (status, headers)


@pytest.mark.parametrize("final", [Done(), Done("length"), Aborted(AbortReason.LIMIT)])
def test_an_answer_that_is_whole_or_cut_by_a_limit_is_no_failure(final):
    assert of_final(final) is None


@pytest.mark.parametrize(
    ("error", "status", "kind", "retry"),
    [
        (Conflict(), 409, "conflict_error", "false"),
        (StoreUnavailable(), 503, "server_error", "true"),
        (UpstreamRejected(upstream_status=401), 401, "authentication_error", "false"),
        (TokenwireError(), 500, "server_error", "true"),
    ],
)
def test_our_own_errors_are_told_alike(error, status, kind, retry):
    failure = of_error(error)
    assert (failure.status, failure.type) == (status, kind)
    assert failure.headers()["x-should-retry"] == retry
