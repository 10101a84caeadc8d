"""A chat-completions body in Anthropic's words."""

import orjson
import pytest

from server.errors import UpstreamRejected
from server.upstream import Request
from server.upstream.message_request import MAX_TOKENS, body_of, messages_of

CALL = {"id": "t1", "type": "function", "function": {"name": "search", "arguments": '{"q":"x"}'}}
USE = {"type": "tool_use", "id": "t1", "name": "search", "input": {"q": "x"}}
FUNCTION = {"name": "search", "description": "d", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
ASKED = {"name": "search", "description": "d", "input_schema": {"type": "object"}}
OWN = {"type": "web_search_20250305", "name": "web_search"}


def body(messages=None, **parameters):
    asked = Request("c", messages or [{"role": "user", "content": "hi"}], parameters)
    return orjson.loads(body_of(asked))


def test_the_least_that_is_asked_for():
    assert body() == {
        "model": "c", "messages": [{"role": "user", "content": "hi"}], "stream": True,
        "max_tokens": MAX_TOKENS,
    }  # fmt: skip


MESSAGES = [
    ([{"role": "user", "content": "a", "name": "x"}], [{"role": "user", "content": "a"}]),
    (
        [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
    ),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
        [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        ]}],
    ),
    (
        [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        ]}],
        [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        ]}],
    ),
    (
        [{"role": "assistant", "content": None, "tool_calls": [CALL]}],
        [{"role": "assistant", "content": [USE]}],
    ),
    (
        [{"role": "assistant", "content": "so", "tool_calls": [CALL]}],
        [{"role": "assistant", "content": [{"type": "text", "text": "so"}, USE]}],
    ),
    (
        [
            {"role": "tool", "tool_call_id": "t1", "content": "1"},
            {"role": "tool", "tool_call_id": "t2", "content": "2"},
            {"role": "user", "content": "a"},
        ],
        [
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "1"},
                {"type": "tool_result", "tool_use_id": "t2", "content": "2"},
            ]},
            {"role": "user", "content": "a"},
        ],
    ),
    (
        [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}],
        [{"role": "user", "content": "a"}],
    ),
    (
        [{"role": "assistant", "content": 5, "tool_calls": [CALL]}],
        [{"role": "assistant", "content": [USE]}],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "asked"), MESSAGES)
def test_messages_are_put_in_its_shape(given, asked):
    assert messages_of(given) == asked


def test_system_messages_are_a_field_of_their_own():
    told = [
        {"role": "system", "content": "a"},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": [{"type": "text", "text": "b"}]},
    ]
    assert (body(told)["system"], len(body(told)["messages"])) == ("a\n\nb", 1)
    assert body(told, system="mine")["system"] == "mine"


PARAMETERS = [
    ({"max_tokens": 7}, {"max_tokens": 7}),
    ({"max_completion_tokens": 8, "max_tokens": 7}, {"max_tokens": 8}),
    ({"stop": "x"}, {"stop_sequences": ["x"]}),
    ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
    ({"temperature": 1.7}, {"temperature": 1}),
    ({"temperature": 0.2, "top_p": 0.9, "top_k": 5}, {"temperature": 0.2, "top_p": 0.9, "top_k": 5}),
    ({"user": "u"}, {"metadata": {"user_id": "u"}}),
    ({"thinking": {"type": "enabled"}}, {"thinking": {"type": "enabled"}}),
    ({"seed": 1, "n": 1, "logprobs": True, "stream_options": {}, "tools": []}, {}),
    ({"tools": [TOOL, OWN]}, {"tools": [ASKED, OWN]}),
    ({"tool_choice": "auto"}, {}),
    ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": [ASKED], "tool_choice": {"type": "auto"}}),
    ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [ASKED], "tool_choice": {"type": "any"}}),
    (
        {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False},
        {"tools": [ASKED], "tool_choice": {"type": "none"}},
    ),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "search"}}},
        {"tools": [ASKED], "tool_choice": {"type": "tool", "name": "search"}},
    ),
    (
        {"tools": [TOOL], "parallel_tool_calls": False},
        {"tools": [ASKED], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
]


@pytest.mark.parametrize(("given", "asked"), PARAMETERS)
def test_parameters_are_put_in_its_words(given, asked):
    assert body(**given) == body() | asked


BAD = [
    ({"n": 2}, None),
    ({}, [{"role": "assistant", "tool_calls": ["x"]}]),
    ({}, [{"role": "assistant", "tool_calls": 5}]),
    ({}, [{"role": "assistant", "tool_calls": [{"function": {"arguments": "[" * 300 + "]" * 300}}]}]),
    ({}, [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]),
    ({}, [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}]),
]


@pytest.mark.parametrize(("given", "messages"), BAD)
def test_what_cannot_be_asked_for_is_refused(given, messages):
    with pytest.raises(UpstreamRejected):
        body(messages, **given)
