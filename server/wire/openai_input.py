"""What a Responses request says, as a chat-completions body, and what of it is echoed (pure).

Functions and text only: what only OpenAI's own servers have (their tools, stored conversations) is
refused, not ignored. A parameter that is not named here is passed on as it is.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from server.errors import InvalidRequest

ECHO_BYTES = 8192
"""What is echoed is read with the session's facts: what is long beyond this is left out."""

_ECHOED = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
)
# Of no meaning to a server of chat completions.
_OURS = (
    "background",
    "include",
    "max_tool_calls",
    "metadata",
    "store",
    "stream",
    "stream_options",
    "truncation",
)
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_REFUSED = ("conversation", "previous_response_id", "prompt")
_PARTS = ("input_text", "output_text", "text", "refusal")


def chat_body(body: dict[str, Any]) -> dict[str, Any]:
    """Return the chat-completions body that asks the same; raise `InvalidRequest`."""
    for name in _REFUSED:
        if body.get(name) is not None:
            raise InvalidRequest(f"`{name}` is not supported: send the whole input.")
    text, reasoning = object_in(body, "text"), object_in(body, "reasoning")
    ours = (*_OURS, *_REFUSED, "text", "reasoning")
    rest = {name: value for name, value in body.items() if name not in ours}
    messages = _system(rest.pop("instructions", None)) + _messages(rest.pop("input", None))
    named = {
        "max_completion_tokens": rest.pop("max_output_tokens", None),
        "tools": _tools(rest.pop("tools", None)),
        "tool_choice": _choice(rest.pop("tool_choice", None)),
        "response_format": _format(text.get("format")),
        "verbosity": text.get("verbosity"),
        "reasoning_effort": reasoning.get("effort"),
    }
    given = {name: value for name, value in named.items() if value is not None}
    return rest | given | {"messages": messages}


def echo(body: dict[str, Any]) -> dict[str, Any]:
    """Return what the response object repeats of its request."""
    kept = {name: body[name] for name in _ECHOED if body.get(name) is not None}
    for name in ("tools", "text", "instructions"):
        if len(orjson.dumps(kept)) > ECHO_BYTES:
            kept.pop(name, None)
    return kept | {"background": bool(body.get("background"))}


def object_in(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a parameter that is an object, by default an empty one."""
    value = body.get(name)
    if not (value is None or isinstance(value, dict)):
        raise InvalidRequest(f"`{name}` must be an object.")
    return value or {}


def flag_in(body: Mapping[str, Any], name: str) -> bool:
    """Return a parameter that is true or false, by default false."""
    value = body.get(name)
    if not (value is None or isinstance(value, bool)):
        raise InvalidRequest(f"`{name}` must be true or false.")
    return bool(value)


def _system(instructions: Any) -> list[dict[str, Any]]:
    if instructions is None:
        return []
    if not isinstance(instructions, str):
        raise InvalidRequest("`instructions` must be a string.")
    return [{"role": "system", "content": instructions}]


def _messages(items: Any) -> list[dict[str, Any]]:
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    if not isinstance(items, list) or not items or not all(isinstance(i, dict) for i in items):
        raise InvalidRequest("`input` must be a string or a list of objects, and not empty.")
    messages: list[dict[str, Any]] = []
    for item in items:
        _take(messages, item)
    return messages


def _take(messages: list[dict[str, Any]], item: dict[str, Any]) -> None:
    match item.get("type", "message"):
        case "message":
            role, content = _ROLES.get(str(item.get("role"))), _content(item.get("content"))
            if role is None:
                raise InvalidRequest(f"`role` is one of {', '.join(_ROLES)}.")
            messages.append({"role": role, "content": content})
        case "function_call":
            _add_call(messages, item)
        case "function_call_output":
            output = _content(item.get("output"))
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": output})
        case "reasoning":
            pass  # chat completions do not take thoughts back
        case other:
            raise InvalidRequest(f"`input` has an item of type {other!r:.50}, which is not supported.")


def _add_call(messages: list[dict[str, Any]], item: dict[str, Any]) -> None:
    """Put a call into the assistant's message before it: the calls of one turn are one message."""
    function = {"name": item.get("name"), "arguments": item.get("arguments", "")}
    call = {"id": item.get("call_id"), "type": "function", "function": function}
    if messages and messages[-1]["role"] == "assistant":
        messages[-1].setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _content(content: Any) -> Any:
    """Return text as text, and pictures as chat completions have them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InvalidRequest("`content` must be a string or a list of objects.")
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in _PARTS:
        text = part.get("refusal" if kind == "refusal" else "text")
        return {"type": "text", "text": text if isinstance(text, str) else ""}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if "detail" in part else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"]} | detail}
    raise InvalidRequest(f"`content` has a part of type {kind!r:.50}, which is not supported.")


def _tools(tools: Any) -> list[dict[str, Any]] | None:
    if tools in (None, []):
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InvalidRequest("`tools` must be a list of objects.")
    if any(tool.get("type") != "function" for tool in tools):
        raise InvalidRequest("`tools` may only be functions.")
    return [{"type": "function", "function": _rest(tool, "type")} for tool in tools]


def _choice(choice: Any) -> Any:
    if choice is None or isinstance(choice, str):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    raise InvalidRequest("`tool_choice` is a word or names a function.")


def _format(wanted: Any) -> dict[str, Any] | None:
    if wanted is None or (isinstance(wanted, dict) and wanted.get("type") == "text"):
        return None
    if not isinstance(wanted, dict):
        raise InvalidRequest("`text.format` must be an object.")
    if wanted.get("type") != "json_schema":
        return wanted
    return {"type": "json_schema", "json_schema": _rest(wanted, "type")}


def _rest(wanted: dict[str, Any], without: str) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if name != without}
