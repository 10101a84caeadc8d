"""UI messages to the body of an upstream: exact tables."""

import pytest

from server.errors import InvalidRequest
from server.transport.ui_messages import chat_body, chat_messages, message_id


def text(text):
    return {"type": "text", "text": text}


def message(role, *parts):
    return {"id": "m", "role": role, "parts": list(parts)}


def call(name, id, input, **state):
    return {"type": f"tool-{name}", "toolCallId": id, "input": input, **state}


PNG = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="}
WAV = {"type": "file", "mediaType": "audio/wav", "url": "data:audio/wav;base64,AA=="}
PDF = {"type": "file", "mediaType": "application/pdf", "url": "data:application/pdf;base64,AA==",
       "filename": "a.pdf"}  # fmt: skip


def called(id, name, arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


TABLE = {
    "texts": (
        [message("system", text("Be kind.")), message("user", text("Hi"), text(" there"))],
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi there"}],
    ),
    "files": (
        [message("user", text("Look"), PNG, WAV, PDF, {"type": "data-x", "data": 1})],
        [{"role": "user", "content": [
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": PNG["url"]}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF["url"]}},
        ]}],
    ),
    "a tool that answered, over two steps": (
        [message(
            "assistant", {"type": "step-start"}, {"type": "reasoning", "text": "hm"},
            text("Let me see. "),
            call("search", "c1", {"q": "x"}, state="output-available", output={"hits": [1]}),
            {"type": "step-start"}, text("Found."),
        )],
        [
            {"role": "assistant", "content": "Let me see. ",
             "tool_calls": [called("c1", "search", '{"q":"x"}')]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"hits":[1]}'},
            {"role": "assistant", "content": "Found."},
        ],
    ),
    "tools that failed, were denied, or were never answered": (
        [message(
            "assistant",
            call("a", "c1", None, state="output-error", errorText="no", rawInput="{q"),
            call("a", "c2", {}, state="output-denied"),
            call("a", "c3", {}, state="approval-responded", approval={"approved": False}),
            call("a", "c4", {}, state="input-available"),
            {"type": "dynamic-tool", "toolName": "b", "toolCallId": "c5", "input": {},
             "state": "output-available", "output": "ok"},
        )],
        [
            {"role": "assistant", "content": None, "tool_calls": [
                called("c1", "a", '"{q"'), called("c2", "a", "{}"), called("c3", "a", "{}"),
                called("c5", "b", "{}"),
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "no"},
            {"role": "tool", "tool_call_id": "c2", "content": "The tool call was denied."},
            {"role": "tool", "tool_call_id": "c3", "content": "The tool call was denied."},
            {"role": "tool", "tool_call_id": "c5", "content": "ok"},
        ],
    ),
    "an answer of which nothing can be told": (
        [message("assistant", {"type": "reasoning", "text": "hm"}), message("user", text("Hi"))],
        [{"role": "user", "content": "Hi"}],
    ),
    "a message without parts": (
        [{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Hi"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_ui_messages_become_these(name):
    given, expected = TABLE[name]
    assert chat_messages(given) == expected


BAD = [
    {},
    {"id": ""},
    {"id": "x" * 201},
    {"id": 7},
    {"id": "c"},
    {"id": "c", "messages": []},
    {"id": "c", "messages": {}},
    {"id": "c", "messages": ["Hi"]},
    {"id": "c", "messages": [{"role": "tool", "parts": []}]},
    {"id": "c", "messages": [{"role": "user", "parts": "Hi"}]},
    {"id": "c", "messages": [{"role": "user", "parts": ["Hi"]}]},
    {"id": "c", "messages": [{"role": "user"}]},
    {"id": "c", "messages": [message("user", text("Hi"))], "session": []},
    {"id": "c", "messages": [message("user", text("Hi"))], "config": "x"},
]


@pytest.mark.parametrize("chat", BAD, ids=str)
def test_what_is_no_chat_is_refused(chat):
    with pytest.raises(InvalidRequest):
        chat_body(chat)


def test_a_chat_is_a_conversation_whose_last_prompt_counts():
    chat = {"id": "c", "messages": [message("user", text("Hi"))], "trigger": "submit-message",
            "messageId": None, "temperature": 0.5}  # fmt: skip
    messages = [{"role": "user", "content": "Hi"}]
    options = {"conversation": "c", "on_busy": "abort_previous"}
    assert chat_body(chat) == {"messages": messages, "session": options, "temperature": 0.5}
    chosen = chat | {"session": {"on_busy": "reject", "ttl": 9, "conversation": "other"}}
    assert chat_body(chosen)["session"] == {"on_busy": "reject", "ttl": 9, "conversation": "c"}


def test_what_assistant_ui_sends_beside_is_understood():
    chat = {
        "id": "c",
        "messages": [message("user", text("Hi"))],
        "system": "Be kind.",
        "tools": {"search": {"description": "Looks", "parameters": {"type": "object"}, "x": 1}},
        "callSettings": {"topP": 0.5, "maxOutputTokens": 9, "unknown": 1},
        "config": {"modelName": "big"},
        "metadata": {"a": 1},
    }
    function = {"name": "search", "description": "Looks", "parameters": {"type": "object"}}
    assert chat_body(chat) == {
        "model": "big", "top_p": 0.5, "max_tokens": 9,
        "tools": [{"type": "function", "function": function}],
        "messages": [
            {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
        ],
        "session": {"conversation": "c", "on_busy": "abort_previous"},
    }  # fmt: skip
    assert "tools" not in chat_body(chat | {"tools": {}})


def test_an_answer_that_goes_on_keeps_its_message():
    user, answer = message("user", text("Hi")), message("assistant", text("a")) | {"id": "m9"}
    assert message_id({"messages": [user, answer]}) == "m9"
    assert message_id({"messages": [answer, user]}) is None
    assert message_id({"messages": []}) is None
    assert message_id({"messages": [answer | {"id": 7}]}) is None
