"""The calls of the Vercel AI SDK and assistant-ui (pure)."""

from server.callers import Right
from server.errors import (
    BadJson,
    Busy,
    Conflict,
    Gone,
    InvalidRequest,
    NotFound,
    TooLarge,
    UnknownModel,
)
from server.openapi.calls import Call, Json, answer, body, link, ref
from server.openapi.schemas import ANY, MODEL, TEXT, list_of, maybe, record

_SSE: Json = ref("ForeignSent") | {"description": "UI message chunks, to `data: [DONE]`."}
_ROLE: Json = {"enum": ["system", "user", "assistant"]}
_UI_MESSAGE: Json = {
    "description": "A UI message: its `parts`, each with a `type`, or its text.",
    "anyOf": [
        record("", role=_ROLE, parts=list_of(ANY)),
        record("", ("parts",), role=_ROLE, content=TEXT, parts={"type": "null"}),
    ],
    "examples": [{"role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
}
SCHEMAS: Json = {
    "UiMessage": _UI_MESSAGE,
    "ChatSend": record(
        "A chat, as `DefaultChatTransport` sends it; parameters for the model may stand beside.",
        ("model", "session", "system", "callSettings", "config"),
        id=TEXT | {"minLength": 1, "maxLength": 200},
        messages=list_of(ref("UiMessage"), 1),
        model=MODEL,
        session=maybe(ref("Options")),
        system={"description": "A text that goes before the messages."},
        callSettings=maybe(ANY),
        config=maybe(ANY),
    )
    | {"not": {"required": ["prompt"]}},
    "ChatStop": {
        "description": "With an `activeStreamId` that is not the answer's id nothing is aborted."
    },
    "ChatStopped": record(
        "It does not run any more; where it stands, if this stopped it.", success={"const": True}
    ),
}
_STREAMS = ("x-vercel-ai-ui-message-stream", "X-Session-Id")
_OPENED = {101: answer("The socket is open.")}
_HELLO = {"id": "chat-1", "messages": [{"role": "user", "parts": [{"type": "text", "text": "Hello"}]}]}
CALLS = (
    Call(
        "post", "/api/chat", "sendChat", "ai-sdk", "Start an answer, and stream it",
        {
            200: answer(
                "The stream.", headers=_STREAMS, sse=_SSE,
                links={
                    "reconnectChat": link("reconnectChat", "Read it again.", name="$request.body#/id"),
                    "stopChat": link("stopChat", "Abort it.", name="$request.body#/id"),
                },
            )
        },
        takes=("idempotencyKey",), body=body(ref("ChatSend"), _HELLO),
        refuses=(InvalidRequest, BadJson, UnknownModel, Conflict, Busy, NotFound, Gone, TooLarge),
        rights=(Right.CREATE, Right.READ),
    ),
    Call(
        "get", "/api/chat/{name}/stream", "reconnectChat", "ai-sdk",
        "Stream the chat's answer from its start",
        {200: answer("The stream.", headers=_STREAMS, sse=_SSE), 204: answer("No answer is live.")},
        takes=("endedToo",), refuses=(InvalidRequest, NotFound),
    ),
    Call(
        "post", "/api/chat/{name}/stop", "stopChat", "ai-sdk", "Abort the chat's answer",
        {200: answer("It does not run any more.", json=ref("ChatStopped"))},
        body=body(ref("ChatStop"), {}, required=False), refuses=(NotFound, TooLarge),
        rights=(Right.CONTROL,),
    ),
    *(
        Call(
            "get", path, id, "ai-sdk", "Open a socket for `WebSocketChatTransport`", _OPENED,
            refuses=(InvalidRequest,),
        )
        for path, id in (("/api/chat", "openChat"), ("/api/chat/ws", "openChatSocket"))
    ),
)  # fmt: skip
