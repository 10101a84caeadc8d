"""Where tokens come from.

The seam: an upstream is a callable that takes a `Request` and returns an async iterator of events.
The last event it yields is final (`Done`, `Error` or `Aborted`); one that ends without is taken as
broken off. It raises `UpstreamFailed` for what went wrong, and closes its connection when it is
closed (`aclose`) or cancelled.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server.events import Event


@dataclass(frozen=True, slots=True)
class Request:
    """One generation to run: an OpenAI chat-completions body, read only.

    `messages` is a list of `{"role", "content"}`; `parameters` is everything else the caller sent
    (temperature, tools, …), to be passed on as it is.
    """

    model: str
    messages: list[dict[str, Any]]
    parameters: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """Return the text of the last user message, or an empty string."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return _text(message.get("content"))
        return ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(
        part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)
    )


Upstream = Callable[[Request], AsyncIterator[Event]]
