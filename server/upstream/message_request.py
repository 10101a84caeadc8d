"""An OpenAI chat-completions body as a request to Anthropic's Messages (pure).

What is Anthropic's own (`thinking`, `top_k`, blocks of content) is passed on as it is, what only OpenAI
knows (`seed`, `logprobs`) is dropped.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from server.errors import UpstreamRejected
from server.events import tellable
from server.upstream import Request

MAX_TOKENS = 4096
"""Asked for if the caller does not say: that server demands a number, and all its models take this."""

_DROPPED = {
    "n", "stream", "stream_options", "max_completion_tokens", "stop", "user", "tools", "tool_choice",
    "parallel_tool_calls", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs",
    "top_logprobs", "seed", "response_format", "reasoning_effort", "store", "modalities", "prediction",
    "functions", "function_call",
}  # fmt: skip
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_DATA_URL = re.compile(r"data:([\w.+/-]+);base64,(.+)", re.DOTALL)

Json = dict[str, Any]


def body_of(request: Request) -> bytes:
    """Return the body; raise `UpstreamRejected` for what cannot be asked for there."""
    given = request.parameters
    if given.get("n") not in (None, 1):
        raise UpstreamRejected("`n` must be 1: a session is one answer.")
    body: Json = {name: value for name, value in given.items() if name not in _DROPPED}
    body |= {"model": request.model, "stream": True, "messages": messages_of(request.messages)}
    body["max_tokens"] = given.get("max_completion_tokens") or given.get("max_tokens") or MAX_TOKENS
    if system := _system(request.messages):
        body.setdefault("system", system)
    if isinstance(heat := given.get("temperature"), int | float):
        body["temperature"] = min(heat, 1)  # OpenAI's goes up to 2
    if stop := given.get("stop"):
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if isinstance(user := given.get("user"), str):
        body.setdefault("metadata", {"user_id": user})
    if isinstance(tools := given.get("tools"), list) and tools:
        body["tools"] = [_tool(tool) for tool in tools]
        body |= _tool_choice(given)
    return orjson.dumps(body)


def messages_of(messages: Iterable[Json]) -> list[Json]:
    """Return the messages in Anthropic's shape; neighbouring results of tools are one message."""
    turns: list[Json] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            continue
        if role != "tool":
            turns.append({"role": role, "content": _content(message)})
        elif turns and turns[-1].get("results"):
            turns[-1]["content"].append(_result(message))
        else:
            turns.append({"role": "user", "content": [_result(message)], "results": True})
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def _system(messages: Iterable[Json]) -> str:
    told = (m.get("content") for m in messages if m.get("role") in ("system", "developer"))
    return "\n\n".join(_plain(content) for content in told)


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _content(message: Json) -> Any:
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, list):
        content = [_part(part) for part in content]
    if not calls:
        return "" if content is None else content
    if not isinstance(calls, list):
        raise UpstreamRejected("`tool_calls` must be a list.")
    text = content if isinstance(content, list) else []
    if isinstance(content, str) and content:
        text = [{"type": "text", "text": content}]
    return [*text, *(_call(call) for call in calls)]


def _part(part: Any) -> Any:
    if not isinstance(part, dict) or part.get("type") != "image_url":
        return part
    image = part.get("image_url")
    url = str(image.get("url", "") if isinstance(image, dict) else image)
    if found := _DATA_URL.fullmatch(url):
        source = {"type": "base64", "media_type": found[1], "data": found[2]}
    else:
        source = {"type": "url", "url": url}
    return {"type": "image", "source": source}


def _call(call: Any) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise UpstreamRejected("A tool call needs a function.")
    try:
        given = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        raise UpstreamRejected("A tool call's arguments are not JSON.") from None
    if not tellable(given):
        raise UpstreamRejected("A tool call's arguments are nested too deeply.")
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given}


def _result(message: Json) -> Json:
    content = message.get("content")
    return {
        "type": "tool_result",
        "tool_use_id": message.get("tool_call_id"),
        "content": content if isinstance(content, str | list) else "",
    }


def _tool(tool: Any) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        return tool
    shape = {"name": function.get("name"), "input_schema": function.get("parameters") or _NOTHING}
    return shape | {name: function[name] for name in ("description",) if name in function}


_NOTHING = {"type": "object", "properties": {}}


def _tool_choice(given: Mapping[str, Any]) -> Json:
    asked, alone = given.get("tool_choice"), given.get("parallel_tool_calls") is False
    if isinstance(asked, dict) and isinstance(asked.get("function"), dict):
        choice: Any = {"type": "tool", "name": asked["function"].get("name")}
    elif isinstance(asked, str) and asked in _CHOICES:
        choice = {"type": _CHOICES[asked]}
    else:
        choice = asked or ({"type": "auto"} if alone else None)
    if alone and isinstance(choice, dict) and choice.get("type") != "none":
        choice = choice | {"disable_parallel_tool_use": True}
    return {"tool_choice": choice} if choice else {}
