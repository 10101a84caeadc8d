"""OpenAI's chat-completions chunks as events (pure)."""

from typing import Any

import msgspec

from server.errors import UpstreamFailed, UpstreamInvalid
from server.events import Content, Done, Event, Reasoning, ToolCall


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
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


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    index: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


class ChunkReader:
    """One answer in progress: takes chunks, gives events, and knows whether it has ended."""

    def __init__(self) -> None:
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None

    @property
    def done(self) -> Done | None:
        """The final event, once a chunk has named the reason; usage may still come after that."""
        return None if self._finish_reason is None else Done(self._finish_reason, self._usage)

    def read(self, data: bytes) -> list[Event]:
        """Return a chunk's events; raise `UpstreamInvalid`, or `UpstreamFailed` for an error chunk."""
        try:
            chunk = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UpstreamInvalid() from None
        if chunk.error is not None:
            raise UpstreamFailed("The model server reported an error.")
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not chunk.choices or chunk.choices[0].index != 0:
            return []
        choice = chunk.choices[0]
        if choice.finish_reason is not None:
            self._finish_reason = choice.finish_reason
        delta = choice.delta or choice.message
        return _events(delta) if delta is not None else []


def _events(delta: _Delta) -> list[Event]:
    events: list[Event] = []
    if reasoning := delta.reasoning_content or delta.reasoning:
        events.append(Reasoning(reasoning))
    if delta.content:
        parts = delta.content
        text = parts if isinstance(parts, str) else "".join(part.text or "" for part in parts)
        events.append(Content(text))
    if delta.refusal:
        events.append(Content(delta.refusal))
    for place, call in enumerate(delta.tool_calls or ()):
        function = call.function or _Function()
        index = call.index if call.index is not None else place
        events.append(ToolCall(index, call.id, function.name, function.arguments))
    return events
