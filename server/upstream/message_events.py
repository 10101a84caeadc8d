"""Anthropic's Messages stream to events (pure).

Blocks of text, thinking and tool use become events; what the server does by itself (its own tools,
signatures, citations) is none of ours. Kinds that are not known are passed over, as its docs ask.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTruncated,
)
from server.events import Content, Done, Event, Reasoning, ToolCall
from server.upstream.sse_parser import SSEParser


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Message(msgspec.Struct):
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None


class _Error(msgspec.Struct):
    type: str = ""


class _Item(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: dict[str, Any] | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Item).decode
_decode_message = msgspec.json.Decoder(_Message).decode

# OpenAI's word for each; any other is passed on as it is.
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_MANY = 1 << 53
"""Tokens that no answer has, and the first number that not every reader of JSON can tell."""

_FAILURES: dict[str, type[UpstreamFailed]] = {
    **dict.fromkeys(("rate_limit_error", "overloaded_error"), UpstreamRateLimited),
    **dict.fromkeys(
        (
            "invalid_request_error", "authentication_error", "permission_error", "billing_error",
            "not_found_error", "request_too_large",
        ),
        UpstreamRejected,
    ),
}  # fmt: skip


class MessageStream:
    """One streamed answer in progress: bytes in, events to `push`; `begun` once there was one."""

    def __init__(self, push: Callable[[Event], None]) -> None:
        self.begun = False
        self._push = push
        self._parser = SSEParser()
        self._tools: dict[int, int] = {}
        self._silent: set[int] = set()
        self._stop_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._ended = False

    def feed(self, piece: bytes) -> bool:
        """Push the events that `piece` completes; return whether that was `message_stop`.

        Raise `UpstreamInvalid` for what is not the protocol, and what `_FAILURES` says for an
        error that the server reports; either after the events before it.
        """
        for _, data, _ in self._parser.feed(piece):
            self._take(_parsed(data))
            if self._ended:
                return True
        return False

    def finish(self) -> Done:
        """Return the end; raise `UpstreamTruncated` if the body ended and no event said why."""
        if self._stop_reason is None and not self._ended:
            raise UpstreamTruncated()
        reason = self._stop_reason or "stop"
        return Done(_REASONS.get(reason, reason), usage_of(self._usage))

    def take_whole(self, body: bytes) -> None:
        """Push the events of an answer that was not streamed; raise as `feed` does."""
        try:
            message = _decode_message(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            message = None
        if message is None or message.content is None:
            _parsed(body)  # which may be an error
            raise UpstreamInvalid("The model server sent no answer.")
        self._opened(message)
        for index, block in enumerate(message.content):
            self._begin(index, block)
            self._end(index)
        self._ended = True

    def _take(self, item: _Item) -> None:
        match item.type:
            case "content_block_delta" if item.delta is not None:
                self._step(item.index, item.delta)
            case "content_block_start" if item.content_block is not None:
                self._begin(item.index, item.content_block)
            case "content_block_stop":
                self._end(item.index)
            case "message_start" if item.message is not None:
                self._opened(item.message)
            case "message_delta":
                self._usage |= _counts(item.usage)
                if item.delta is not None:
                    self._stop_reason = item.delta.stop_reason or self._stop_reason
            case "message_stop":
                self._ended = True

    def _opened(self, message: _Message) -> None:
        self._usage |= _counts(message.usage)
        self._stop_reason = message.stop_reason

    def _begin(self, index: int, block: _Block) -> None:
        if block.type == "tool_use":
            call = self._tools[index] = len(self._tools)
            given = msgspec.json.encode(block.input).decode() if block.input else None
            if given is None:
                self._silent.add(index)
            self._tell(ToolCall(call, block.id, block.name, given))
        elif block.type == "text" and block.text:
            self._tell(Content(block.text))
        elif block.type == "thinking" and block.thinking:
            self._tell(Reasoning(block.thinking))

    def _step(self, index: int, delta: _Delta) -> None:
        if delta.text:
            self._tell(Content(delta.text))
        elif delta.thinking:
            self._tell(Reasoning(delta.thinking))
        elif delta.partial_json and index in self._tools:
            self._silent.discard(index)
            self._tell(ToolCall(self._tools[index], arguments=delta.partial_json))

    def _end(self, index: int) -> None:
        """Spell out a tool's empty input, which is streamed as nothing at all."""
        if index in self._silent:
            self._silent.discard(index)
            self._tell(ToolCall(self._tools[index], arguments="{}"))

    def _tell(self, event: Event) -> None:
        self.begun = True
        self._push(event)


def _parsed(data: bytes) -> _Item:
    try:
        item = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        item = None
    if item is None:
        # Outside of the handler: the decoder's error may quote the body.
        raise UpstreamInvalid()
    if item.type == "error":
        kind = _FAILURES.get(item.error.type if item.error else "", UpstreamFailed)
        raise kind("The model server reported an error.")
    return item


def _counts(usage: dict[str, Any] | None) -> dict[str, Any]:
    counts = (usage or {}).items()
    return {name: count for name, count in counts if isinstance(count, int) and 0 <= count < _MANY}


def usage_of(counts: dict[str, Any]) -> dict[str, Any] | None:
    """Return Anthropic's counts as OpenAI's, where what came from a cache is part of the prompt."""
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return None
    cached = counts.get("cache_read_input_tokens", 0)
    asked = counts.get("input_tokens", 0) + cached + counts.get("cache_creation_input_tokens", 0)
    said = counts.get("output_tokens", 0)
    usage = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    return usage | ({"prompt_tokens_details": {"cached_tokens": cached}} if cached else {})
