"""OpenAI's chat-completions stream to events (pure).

It takes what the compatible servers really send: two names for reasoning, content as parts, a
refusal, the old `function_call`, tool calls without an index, a whole answer instead of a stream.
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
from server.events import Content, Done, Event, Place, Reasoning, ToolCall, tellable
from server.upstream.sse_parser import SSEParser


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _ToolCall(msgspec.Struct):
    index: Place | None = None
    id: str | None = None
    function: _Function | None = None


class _Part(msgspec.Struct):
    text: str | None = None


class _Delta(msgspec.Struct):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    object: str | None = None
    code: Any = None
    type: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode

# A server's own error, as far as a client may know it: its code or type, never its words.
_FAILURES: dict[str | int, type[UpstreamFailed]] = {
    **dict.fromkeys((400, 401, 403, 404, 413, 422), UpstreamRejected),
    **dict.fromkeys((429, 503), UpstreamRateLimited),
    "invalid_request_error": UpstreamRejected,
    "authentication_error": UpstreamRejected,
    "permission_error": UpstreamRejected,
    "context_length_exceeded": UpstreamRejected,
    "BadRequestError": UpstreamRejected,
    "rate_limit_error": UpstreamRateLimited,
    "rate_limit_exceeded": UpstreamRateLimited,
    "insufficient_quota": UpstreamRateLimited,
    "overloaded_error": UpstreamRateLimited,
}


class ChunkReader:
    """One streamed answer in progress: bytes in, events to `push`; `begun` once there was one."""

    def __init__(self, push: Callable[[Event], None]) -> None:
        self.begun = False
        self._push = push
        self._parser = SSEParser()
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self._ended = False

    def feed(self, piece: bytes) -> bool:
        """Push the events that `piece` completes; return whether that was `[DONE]`.

        Raise `UpstreamInvalid` for what is not the protocol, and what `_FAILURES` says for an
        error that the server reports; either after the events before it.
        """
        for name, data, _ in self._parser.feed(piece):
            if data == b"[DONE]":
                self._ended = True
                return True
            self._take(_parsed(data, name == "error"))
        return False

    def end(self) -> None:
        """Learn that the end was told."""
        self._ended = True

    def fail(self, data: bytes) -> None:
        """Raise what an error message says."""
        _parsed(data, failed=True)

    def take_value(self, chunk: dict[str, Any]) -> None:
        """Push the events of a chunk that is parsed already."""
        self._take(_checked(_converted(chunk)))

    def finish(self, whole: bool = False) -> Done:
        """Return the end; raise `UpstreamTruncated` if no chunk said why, unless the body was `whole`."""
        if self._finish_reason is None and not (self._ended or whole):
            raise UpstreamTruncated()
        return Done(self._finish_reason or "stop", self._usage)

    def _take(self, chunk: _Chunk) -> None:
        # Usage comes in a chunk of its own, after the one that names the finish_reason.
        if chunk.usage is not None:
            self._usage = _told(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index != 0:  # one answer was asked for
                continue
            if choice.finish_reason:
                self._finish_reason = choice.finish_reason
            for event in _events(choice.delta):
                self.begun = True
                self._push(event)


def whole_answer(body: bytes) -> tuple[list[Event], Done]:
    """Return the events of an answer that was not streamed, and its end.

    Raise `UpstreamInvalid` if it is none, and what `_FAILURES` says if it is an error.
    """
    chunk = _parsed(body)
    if not chunk.choices or chunk.choices[0].message is None:
        raise UpstreamInvalid("The model server sent no answer.")
    choice = chunk.choices[0]
    return _events(choice.message), Done(choice.finish_reason or "stop", _told(chunk.usage))


def _told(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    return usage if tellable(usage) else None


def _parsed(data: bytes, failed: bool = False) -> _Chunk:
    try:
        chunk = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        chunk = None
    if chunk is None:
        # Outside of the handler: the decoder's error may quote the body.
        raise UpstreamInvalid()
    return _checked(chunk, failed)


def _converted(value: dict[str, Any]) -> _Chunk:
    try:
        return msgspec.convert(value, _Chunk)
    except msgspec.ValidationError:
        raise UpstreamInvalid() from None


def _checked(chunk: _Chunk, failed: bool = False) -> _Chunk:
    if failed or chunk.error is not None or chunk.object == "error":
        raise _failure(chunk)
    return chunk


def _failure(chunk: _Chunk) -> UpstreamFailed:
    error = chunk.error if isinstance(chunk.error, dict) else {}
    words = (error.get("code"), error.get("type"), chunk.code, chunk.type)
    kinds = (_FAILURES.get(word) for word in words if isinstance(word, str | int))
    kind = next(filter(None, kinds), UpstreamFailed)
    return kind("The model server reported an error.")


def _events(delta: _Delta | None) -> list[Event]:
    if delta is None:
        return []
    events: list[Event] = []
    if thought := delta.reasoning_content or delta.reasoning:
        events.append(Reasoning(thought))
    if text := _text(delta.content):
        events.append(Content(text))
    if delta.refusal:
        events.append(Content(delta.refusal))
    for place, call in enumerate(delta.tool_calls or ()):
        function = call.function or _Function()
        index = place if call.index is None else call.index
        events.append(ToolCall(index, call.id, function.name, _arguments(function)))
    if delta.function_call is not None:
        function = delta.function_call
        events.append(ToolCall(0, None, function.name, _arguments(function)))
    return events


def _text(content: str | list[_Part] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text or "" for part in content)
    return content or ""


def _arguments(function: _Function) -> str | None:
    if isinstance(function.arguments, dict):
        return msgspec.json.encode(function.arguments).decode()
    return function.arguments
