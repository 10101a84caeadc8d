"""OpenAI's chat-completion chunks to events (pure).

Shared by every reader of that dialect: the `openai` upstream and a proxied response. It takes what
the compatible servers really send: two names for reasoning, content as parts, a refusal, the old
`function_call`, tool calls without an index, a whole answer where a stream was asked for.
"""

from collections.abc import Iterator
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


class _Part(msgspec.Struct):
    text: str | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
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

# What a server's own error says, as far as a client may know: never its text.
_FAILURES: dict[Any, type[UpstreamFailed]] = {
    400: UpstreamRejected,
    401: UpstreamRejected,
    403: UpstreamRejected,
    404: UpstreamRejected,
    422: UpstreamRejected,
    429: UpstreamRateLimited,
    503: UpstreamRateLimited,
    "invalid_request_error": UpstreamRejected,
    "BadRequestError": UpstreamRejected,
    "authentication_error": UpstreamRejected,
    "permission_error": UpstreamRejected,
    "context_length_exceeded": UpstreamRejected,
    "content_policy_violation": UpstreamRejected,
    "rate_limit_error": UpstreamRateLimited,
    "rate_limit_exceeded": UpstreamRateLimited,
    "insufficient_quota": UpstreamRateLimited,
    "overloaded_error": UpstreamRateLimited,
}


class OpenAIDecoder:
    """One streamed answer in progress: bytes in, events out, `Done` at its end."""

    def __init__(self) -> None:
        self._parser = SSEParser()
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self.ended = False

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes, `Done` after `[DONE]` and nothing after it.

        Raise `UpstreamInvalid` for what is not the protocol, another `UpstreamFailed` for an
        error that the server reports in the stream; both after the events before it.
        """
        for name, data, _ in self._parser.feed(chunk):
            if self.ended:
                return
            if data == b"[DONE]":
                yield self._done()
            else:
                yield from self._take(_parsed(data), failed=name == "error")

    def finish(self) -> Iterator[Done]:
        """Yield `Done` at the end of the body, if the stream said that it is finished.

        Raise `UpstreamTruncated` if it did not: what came is a part.
        """
        if self.ended:
            return
        if self._finish_reason is None:
            raise UpstreamTruncated()
        yield self._done()

    def _done(self) -> Done:
        self.ended = True
        return Done(self._finish_reason or "stop", self._usage)

    def _take(self, chunk: _Chunk, failed: bool) -> Iterator[Event]:
        if failed or chunk.error is not None or chunk.object == "error":
            raise _failure(chunk)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue  # Only one answer was asked for.
            if choice.delta is not None:
                yield from _events(choice.delta)
            self._finish_reason = choice.finish_reason or self._finish_reason


def whole_answer(body: bytes) -> list[Event]:
    """Return the events of an answer that was not streamed, `Done` last.

    Raise `UpstreamInvalid` if it holds no answer, another `UpstreamFailed` if it is an error.
    """
    chunk = _parsed(body)
    if chunk.error is not None or chunk.object == "error":
        raise _failure(chunk)
    if not chunk.choices or (answer := chunk.choices[0]).message is None:
        raise UpstreamInvalid("The model server sent no answer.")
    return [*_events(answer.message), Done(answer.finish_reason or "stop", chunk.usage)]


def _parsed(data: bytes) -> _Chunk:
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    # Outside of the handler: the decoder's own error may quote the body.
    raise UpstreamInvalid()


def _events(delta: _Delta) -> Iterator[Event]:
    if thought := delta.reasoning_content or delta.reasoning:
        yield Reasoning(thought)
    if text := _text(delta.content):
        yield Content(text)
    if delta.refusal:
        yield Content(delta.refusal)
    for at, call in enumerate(delta.tool_calls or ()):
        function = call.function or _Function()
        index = at if call.index is None else call.index
        yield ToolCall(index, call.id or None, function.name, _arguments(function))
    if delta.function_call is not None:
        yield ToolCall(0, None, delta.function_call.name, _arguments(delta.function_call))


def _text(content: str | list[_Part] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text or "" for part in content)
    return content or ""


def _arguments(function: _Function) -> str | None:
    if isinstance(function.arguments, dict):
        return msgspec.json.encode(function.arguments).decode()
    return function.arguments


def _failure(chunk: _Chunk) -> UpstreamFailed:
    error = chunk.error if isinstance(chunk.error, dict) else {}
    says = [error.get("code"), error.get("type"), chunk.code, chunk.type]
    known = (_FAILURES[word] for word in says if isinstance(word, str | int) and word in _FAILURES)
    return next(known, UpstreamFailed)()
