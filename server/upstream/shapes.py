"""JSON of any model server's making to events (pure): ours, OpenAI's chunks, what can be made of them.

| known by | whose |
| --- | --- |
| `type` of one of our events | this server's own |
| `choices` with `delta`, `message` or `text` | OpenAI and those who follow it |
| `response` | Workers AI, Ollama's generate |
| `message` | Ollama's chat |
| `token` with `text`, `generated_text` | Text Generation Inference |
| `content`, `text`, `delta`, `output` that are texts | llama.cpp, and many a small server |
"""

from collections.abc import Callable
from typing import Any

import msgspec

from server.errors import UpstreamInvalid
from server.events import FINAL, Content, Event, FinalEvent
from server.upstream.chunks import ChunkReader

_OURS = ("content", "reasoning", "tool_call", "bytes", "done", "aborted", "error")
_TEXTS = ("response", "content", "text", "delta", "output")
_ENDS = ("choices", "done", "stop", "generated_text")
"""What a server has in its messages that says itself where its stream ends."""

_REASONS = {"eos_token": "stop", "stop_sequence": "stop"}


class MessageReader:
    """Messages of JSON in progress: each in, its events to `push`; `begun` once there was one.

    A `strict` one raises `UpstreamInvalid` for a shape that is unknown; else its JSON is the text.
    `final` is the end that was told as an event, `chunks` knows the one that was told as OpenAI does.
    """

    def __init__(self, push: Callable[[Event], None], strict: bool = False) -> None:
        self.final: FinalEvent | None = None
        self._push = push
        self._strict = strict
        self._begun = self._marked = False
        self.chunks = ChunkReader(push)

    @property
    def begun(self) -> bool:
        """Whether there was an event."""
        return self._begun or self.chunks.begun

    def take(self, data: bytes, failed: bool = False) -> bool:
        """Push the events of one message; return whether it was the last."""
        if failed:
            self.chunks.fail(data)
        if data == b"[DONE]":
            self.chunks.end()
            return True
        value = _object(data)
        event = _ours(value)
        if event is None:
            return self._read(value, data)
        self._marked = True
        if isinstance(event, FINAL):
            self.final = event
            return True
        self._tell(event)
        return False

    def finish(self, whole: bool) -> FinalEvent:
        """Return the end: the one that was told, or that of a `whole` body if there is none to expect.

        Raise `UpstreamTruncated` otherwise.
        """
        return self.final or self.chunks.finish(whole and not self._marked)

    def _read(self, value: dict[str, Any], data: bytes) -> bool:
        chunk = as_chunk(value)
        if chunk is not None:
            self._marked = self._marked or any(name in value for name in _ENDS)
            self.chunks.take_value(chunk)
        elif self._strict:
            raise UpstreamInvalid()
        else:
            self._tell(Content(data.decode()))
        return False

    def _tell(self, event: Event) -> None:
        self._begun = True
        self._push(event)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        # Outside of the handler: the decoder's error may quote the body.
        raise UpstreamInvalid()
    return value


def _ours(value: dict[str, Any]) -> Event | None:
    if value.get("type") not in _OURS:
        return None
    try:
        event: Event = msgspec.convert(value, Event)
    except msgspec.ValidationError:
        return None
    return event


def as_chunk(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return a message of a known shape as one of OpenAI's chunks, any other as None."""
    if isinstance(value.get("result"), dict):  # Cloudflare's envelope
        value = value["result"]
    if value.get("error") is not None:
        return value
    if isinstance(value.get("choices"), list):
        return value | {"choices": [_choice(choice) for choice in value["choices"]]}
    delta, finish = _delta(value), _finish_reason(value)
    if delta is None and finish is None:
        return None
    return {"choices": [{"delta": delta, "finish_reason": finish}], "usage": _usage(value)}


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict) or choice.get("delta") is not None:
        return choice
    if isinstance(choice.get("message"), dict):
        return choice | {"delta": choice["message"]}
    return choice | {"delta": {"content": choice.get("text")}}


def _delta(value: dict[str, Any]) -> dict[str, Any] | None:
    message, token = value.get("message"), value.get("token")
    if isinstance(message, dict):
        return message | {"reasoning": message.get("thinking")}
    if isinstance(token, dict):
        return {} if token.get("special") else {"content": token.get("text")}
    text = next((value[name] for name in _TEXTS if isinstance(value.get(name), str)), None)
    thought = value.get("thinking")
    return None if text is None and thought is None else {"content": text, "reasoning": thought}


def _finish_reason(value: dict[str, Any]) -> str | None:
    details = value.get("details")
    if value.get("generated_text") is not None:
        reason = details.get("finish_reason") if isinstance(details, dict) else None
    elif value.get("done") is True:
        reason = value.get("done_reason")
    elif value.get("stop") is True:
        reason = "length" if value.get("stop_type") == "limit" else None
    else:
        return None
    return _REASONS.get(reason, reason) if isinstance(reason, str) else "stop"


def _usage(value: dict[str, Any]) -> dict[str, Any] | None:
    if isinstance(value.get("usage"), dict):
        usage: dict[str, Any] = value["usage"]
        return usage
    asked, said = value.get("prompt_eval_count"), value.get("eval_count")
    if not (isinstance(asked, int) and isinstance(said, int)):
        return None
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
