"""The clients: what each speaks, and in which words of its own it says that something went wrong."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """A client: its script, its package, what it speaks.

    `failed` is what a failed upstream is to it, `aborted` what its own abort is, and `lost` what a cut
    connection is, if its protocol knows no way to go on.
    """

    script: str
    package: str
    speaks: str
    failed: str = "error event"
    aborted: str = "aborted"
    lost: str | None = None

    @property
    def name(self) -> str:
        return self.script.rpartition(".")[0]


_CHAT, _RESPONSES, _SSE, _WS = "OpenAI chat", "OpenAI Responses", "native SSE", "native WebSocket"
_BACKGROUND = {"failed": "response.failed", "aborted": "cancelled"}

PYTHON = (
    Client("openai_chat.py", "openai-python", _CHAT, "APIError", lost="APIConnectionError"),
    Client("openai_chat_sync.py", "openai-python", _CHAT, "APIError", lost="APIConnectionError"),
    Client("openai_responses.py", "openai-python", _RESPONSES, **_BACKGROUND),
    Client("httpx_sse_events.py", "httpx-sse", _SSE),
    Client("websockets_client.py", "websockets", _WS),
    Client("aiohttp_websocket.py", "aiohttp", _WS),
)
NODE = (
    Client("openai_chat.mjs", "openai", _CHAT, "APIError", lost="TypeError"),
    Client("openai_responses.mjs", "openai", _RESPONSES, **_BACKGROUND),
    Client("ai_http.mjs", "ai", "AI SDK, DefaultChatTransport", "Error"),
    Client("ai_websocket.mjs", "ai", "AI SDK, WebSocketChatTransport", "Error"),
    Client("assistant_stream.mjs", "assistant-stream", "AI SDK", "error chunk"),
    Client("eventsource.mjs", "eventsource", _SSE),
    Client("ws.mjs", "ws", _WS),
    Client("node_websocket.mjs", "node", _WS),
    Client("partysocket.mjs", "partysocket", _WS),
    Client("reconnecting_websocket.mjs", "reconnecting-websocket", _WS),
)
BROWSER = (
    Client("browser_eventsource.mjs", "Chromium", _SSE),
    Client("fetch_event_source.mjs", "@microsoft/fetch-event-source", _SSE),
    Client("use_chat.mjs", "@ai-sdk/react", "AI SDK, useChat", "Error"),
)
CLIENTS = (*PYTHON, *NODE, *BROWSER)
