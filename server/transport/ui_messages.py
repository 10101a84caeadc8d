"""The AI SDK's UI messages as the chat-completions body that upstreams take (pure).

What a model cannot be told is left out: reasoning, sources, data parts, and tool calls without a
result, which upstreams refuse. assistant-ui's `system`, `tools`, `callSettings` and `config` are read.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from server.errors import InvalidRequest
from server.wire.openai_input import object_in

_OURS = {"id", "messages", "trigger", "messageId", "metadata"}
_THEIRS = {"system", "tools", "callSettings", "config", "session"}
_SETTINGS = {
    "temperature": "temperature",
    "topP": "top_p",
    "maxTokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "stopSequences": "stop",
    "seed": "seed",
}
_DENIED = "The tool call was denied."
Message = dict[str, Any]


def chat_body(chat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a start's body for a chat's; raise `InvalidRequest`.

    A second prompt aborts the first unless the caller says otherwise: this client's `stop()` is silence.
    """
    name = chat.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise InvalidRequest("`id` must be a string of 1 to 200 characters.")
    config, settings = object_in(chat, "config"), object_in(chat, "callSettings")
    rest = {key: value for key, value in chat.items() if key not in _OURS | _THEIRS}
    known = {_SETTINGS[key]: value for key, value in settings.items() if key in _SETTINGS}
    model = {"model": config["modelName"]} if "modelName" in config else {}
    options = {"on_busy": "abort_previous", **object_in(chat, "session"), "conversation": name}
    messages = [*_system(chat.get("system")), *chat_messages(chat.get("messages"))]
    return model | known | rest | _tools(chat.get("tools")) | {"messages": messages, "session": options}


def message_id(chat: Mapping[str, Any]) -> str | None:
    """Return the id of the message that this answer goes on with, which must keep it; else None."""
    messages = chat.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return None
    id = last.get("id")
    return id if isinstance(id, str) and 0 < len(id) <= 200 else None


def chat_messages(messages: Any) -> list[Message]:
    """Return OpenAI's messages; raise `InvalidRequest`."""
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("`messages` must be a list of UI messages, and not empty.")
    return [told for message in messages for told in _message(message)]


def _system(system: Any) -> list[Message]:
    return [{"role": "system", "content": system}] if isinstance(system, str) and system else []


def _tools(tools: Any) -> dict[str, Any]:
    if not isinstance(tools, dict):
        return {"tools": tools} if tools else {}
    functions = [
        {"name": name, **{key: tool[key] for key in ("description", "parameters") if key in tool}}
        for name, tool in tools.items()
        if isinstance(tool, dict)
    ]
    return {"tools": [{"type": "function", "function": f} for f in functions]} if functions else {}


def _message(message: Any) -> list[Message]:
    if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant"):
        raise InvalidRequest("A UI message is an object with a role: system, user or assistant.")
    role, parts = message["role"], message.get("parts")
    if parts is None and isinstance(message.get("content"), str):
        return [{"role": role, "content": message["content"]}]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise InvalidRequest("A UI message has `parts`, a list of objects.")
    if role == "assistant":
        return [told for step in _steps(parts) for told in _answered(step)]
    if role == "system":
        return [{"role": role, "content": _text(parts)}]
    return [{"role": role, "content": _content(parts)}]


def _text(parts: list[Message]) -> str:
    return "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")


def _content(parts: list[Message]) -> str | list[Message]:
    told = [part for part in parts if part.get("type") in ("text", "file")]
    if all(part["type"] == "text" for part in told):
        return _text(told)
    return [_file(part) if part["type"] == "file" else _plain(part) for part in told]


def _plain(part: Message) -> Message:
    return {"type": "text", "text": str(part.get("text", ""))}


def _file(part: Message) -> Message:
    media_type, url = str(part.get("mediaType", "")), str(part.get("url", ""))
    if media_type.partition("/")[0] == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if media_type in ("audio/wav", "audio/mpeg", "audio/mp3"):
        kind = "wav" if media_type == "audio/wav" else "mp3"
        data = url.partition(",")[2]
        return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}
    return {"type": "file", "file": {"filename": part.get("filename") or "file", "file_data": url}}


def _steps(parts: list[Message]) -> list[list[Message]]:
    steps: list[list[Message]] = [[]]
    for part in parts:
        if part.get("type") == "step-start":
            steps.append([])
        else:
            steps[-1].append(part)
    return steps


def _answered(parts: list[Message]) -> list[Message]:
    """Return one step of an answer: its text and tool calls, and the tools' results."""
    text = _text(parts)
    calls = [(part, result) for part in parts if (result := _result(part)) is not None]
    answer: Message = {"role": "assistant", "content": text or None}
    if calls:
        answer["tool_calls"] = [_called(part) for part, _ in calls]
    results = [
        {"role": "tool", "tool_call_id": str(part.get("toolCallId")), "content": result}
        for part, result in calls
    ]
    return [answer, *results] if text or calls else []


def _called(part: Message) -> Message:
    kind, given = part["type"], part.get("input")
    name = part.get("toolName") if kind == "dynamic-tool" else kind.removeprefix("tool-")
    given = part.get("rawInput", {}) if given is None else given
    function = {"name": str(name), "arguments": orjson.dumps(given).decode()}
    return {"id": str(part.get("toolCallId")), "type": "function", "function": function}


def _result(part: Message) -> str | None:
    """Return what a tool answered; None for a part that is no tool call, or one without an answer."""
    kind, state = part.get("type"), part.get("state")
    if not isinstance(kind, str) or not (kind.startswith("tool-") or kind == "dynamic-tool"):
        return None
    if state == "output-available":
        output = part.get("output")
        return output if isinstance(output, str) else orjson.dumps(output).decode()
    if state == "output-error":
        return str(part.get("errorText"))
    denied = object_in(part, "approval").get("approved") is False
    return _DENIED if state == "output-denied" or denied else None
