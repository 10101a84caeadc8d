"""What is published of the HTTP calls: tables, and the OpenAPI 3.1 document that they make (pure).

A call that the application serves and no table describes fails a test, and so does the reverse.
"""

from typing import Any

from server.openapi import chats, openai, sessions
from server.openapi.calls import Call, operation
from server.openapi.parameters import PARAMETERS
from server.openapi.schemas import SCHEMAS

CALLS: tuple[Call, ...] = (*sessions.CALLS, *openai.CALLS, *chats.CALLS)
_ABOUT = """\
Starts generations, streams them, and steers them. The rules behind the calls, and what goes over the
WebSockets, are in docs/protocol.md. A server without credentials set up asks nobody for any. Every
answer names its request in `X-Request-Id`; a request may bring a name of its own there."""
_TAGS = {
    "sessions": "One generation each: start, attach, steer, look, delete.",
    "conversations": "The same calls, for the newest session under a name of yours.",
    "sockets": "WebSockets; without an upgrade each answers 400.",
    "openai": "For OpenAI's clients as they are.",
    "ai-sdk": "For the Vercel AI SDK and assistant-ui as they are.",
    "server": "About this server.",
}
_SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key (`tw_…`) or a JWT."},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "tokenwire",
        "description": "The same, for pages of this server's own origin or of an allowed one.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "A permission for one session, for clients that can send no header.",
    },
}


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method] = operation(call)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tokenwire", "version": "1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": says} for name, says in _TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY,
            "parameters": PARAMETERS,
            "schemas": SCHEMAS | openai.SCHEMAS | chats.SCHEMAS,
        },
    }
