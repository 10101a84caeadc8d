"""The calls of our own protocol, and those about the server (pure)."""

from server.callers import Right
from server.errors import (
    BadCursor,
    BadEvent,
    BadJson,
    Busy,
    Conflict,
    Draining,
    Gone,
    InvalidRequest,
    NotFound,
    PushConflict,
    SessionClosed,
    StoreUnavailable,
    TooLarge,
    UnknownModel,
    UnsupportedMediaType,
    WrongNode,
)
from server.openapi.calls import NDJSON, SSE, TEXT, Call, Json, answer, body, link, ref

_TEXT: Json = {"type": "string"}
_STREAMS: Json = {
    "sse": ref("ServerSent"),
    "ndjson": _TEXT | {"description": "A `Line` each."},
    "text": _TEXT | {"description": "The text; of a session that fails it breaks off."},
}
_ANY: Json = {"sse": {"anyOf": [ref("ServerSent"), ref("ForeignSent")]}}
_START: Json = {"anyOf": [ref("Start"), ref("StartPush")]}
_STARTED = (Right.CREATE, Right.READ)
_STEERED = (Right.CONTROL,)
_ACTIONS = {
    "pause": "Shut the gate: nothing above it is delivered until the resume.",
    "resume": "Deliver on.",
    "abort": "End it, and wait up to 2 s for the upstream's connection to be closed.",
}
_NO_SESSION = (NotFound, Gone)
_BEGINS = (InvalidRequest, BadJson, UnknownModel, Conflict, Busy, Gone, TooLarge)


def _of_session(sid: str) -> Json:
    """Return where an answer leads that names its session so."""
    calls = {
        "getSession": "Look at it.",
        "attachSession": "Read it.",
        "readRaw": "Read its body.",
        "pauseSession": "Pause it.",
        "resumeSession": "Resume it.",
        "abortSession": "Abort it.",
        "issueTicket": "Let a page read it.",
        "pushEvents": "Push its events, if it is one for that.",
        "putEvents": "The same, as `curl -T-` does.",
        "deleteSession": "Forget it.",
    }
    return {id: link(id, says, sid=sid) for id, says in calls.items()}


_PUSHED = {
    NDJSON: '{"type":"content","content":"Hello"}\n{"type":"done"}\n',
    SSE: 'data: {"type":"content","content":"Hello"}\n\ndata: [DONE]\n\n',
    TEXT: "Hello",
}
_STANDING = "Where it stands; asked twice, it answers twice the same."
_START_CALLS = (
    Call(
        "post", "/v1/sessions", "startSession", "sessions",
        "Start a session; with `stream`, or by `Accept`, stream it in the same answer",
        {
            201: answer(
                "The session.", headers=("Location",), json=ref("Session"),
                links=_of_session("$response.body#/id"),
            ),
            200: answer(
                "The session that this key has started before, or the stream.",
                headers=("Location",), json=ref("Session"), **_STREAMS,
            ),
        },
        takes=("stream", "delivery", "idempotencyKey"),
        body=body(_START, {"prompt": "Hello"}, {"upstream": "push"}),
        refuses=_BEGINS, rights=_STARTED,
    ),
    Call(
        "get", "/v1/stream", "startStream", "sessions", "Start and stream for a browser's EventSource",
        {
            200: answer(
                "The stream; ids are `<sid>.<epoch>-<seq>`.", headers=("X-Session-Id",),
                sse=_STREAMS["sse"], links=_of_session("$response.header.X-Session-Id"),
            ),
            204: answer("The client has it all."),
        },
        takes=("prompt", "askedModel", "delivery", "lastEventIdOfSession"),
        refuses=(InvalidRequest, BadCursor, UnknownModel, *_NO_SESSION), rights=_STARTED,
    ),
)  # fmt: skip
_SESSION_CALLS = (
    Call(
        "get", "/v1/sessions", "listSessions", "sessions", "List recent sessions, newest first",
        {200: answer("A page of them.", json=ref("Sessions"))},
        takes=("offset", "limit"), refuses=(InvalidRequest,), rights=(Right.ADMIN,),
    ),
    Call(
        "get", "/v1/sessions/{sid}", "getSession", "sessions", "Look at a session",
        {200: answer("The session.", json=ref("Session"))}, refuses=_NO_SESSION, ticket=True,
    ),
    Call(
        "delete", "/v1/sessions/{sid}", "deleteSession", "sessions", "Abort a session, and wipe its log",
        {204: answer("It is gone.")}, refuses=_NO_SESSION, rights=_STEERED,
    ),
    Call(
        "get", "/v1/sessions/{sid}/events", "attachSession", "sessions",
        "Stream a session from a cursor on",
        {200: answer("The stream.", **_STREAMS | _ANY), 204: answer("The client has it all.")},
        takes=("after", "lastEventId", "stream", "delivery", "format"),
        refuses=(InvalidRequest, BadCursor, *_NO_SESSION), ticket=True,
    ),
    Call(
        "get", "/v1/sessions/{sid}/raw", "readRaw", "sessions",
        "Stream the text, or the bytes under the upstream's content type",
        {200: answer("The body; of a session that fails it breaks off.", any=_TEXT)},
        refuses=_NO_SESSION, ticket=True,
    ),
    *(
        Call(
            "post", f"/v1/sessions/{{sid}}/{action}", f"{action}Session", "sessions", says,
            {200: answer(_STANDING, json=ref("Ended" if action == "abort" else "Standing"))},
            refuses=_NO_SESSION, rights=_STEERED,
        )
        for action, says in _ACTIONS.items()
    ),
    *(
        Call(
            method, "/v1/sessions/{sid}/events", id, "sessions",
            "Push events: the body is the session's upstream",
            {200: answer("Redis holds it all.", json=ref("Pushed"))},
            takes=("producerSeq", "final"),
            body={"content": {kind: {"schema": _TEXT, "example": t} for kind, t in _PUSHED.items()}},
            refuses=(
                InvalidRequest, BadEvent, *_NO_SESSION, SessionClosed, PushConflict, UnsupportedMediaType,
                WrongNode,
            ),
            rights=_STEERED,
        )
        for method, id in (("post", "pushEvents"), ("put", "putEvents"))
    ),
    Call(
        "post", "/v1/sessions/{sid}/tickets", "issueTicket", "sessions",
        "Issue a ticket for a client that can send no header",
        {201: answer("The ticket.", json=ref("Ticket"))},
        body=body(ref("TicketOrder"), {"rights": ["read"], "ttl": 60}),
        refuses=(InvalidRequest, BadJson, TooLarge, *_NO_SESSION),
    ),
)  # fmt: skip
_CONVERSATION = "/v1/conversations/{name}"
_CONVERSATION_CALLS = (
    Call(
        "get", _CONVERSATION, "getConversation", "conversations", "Look at the newest session",
        {200: answer("The session.", json=ref("Session"), links=_of_session("$response.body#/id"))},
        refuses=_NO_SESSION,
    ),
    Call(
        "delete", _CONVERSATION, "deleteConversation", "conversations",
        "Abort and wipe the newest session",
        {204: answer("It is gone.")}, refuses=_NO_SESSION, rights=_STEERED,
    ),
    Call(
        "get", f"{_CONVERSATION}/events", "attachConversation", "conversations",
        "Stream the newest session",
        {
            200: answer("The stream.", headers=("X-Session-Id",), **_STREAMS),
            204: answer("The client has it all."),
        },
        takes=("afterAny", "lastEventIdAny", "stream", "delivery"),
        refuses=(InvalidRequest, BadCursor, *_NO_SESSION),
    ),
    *(
        Call(
            "post", f"{_CONVERSATION}/{action}", f"{action}Conversation", "conversations", says,
            {200: answer(_STANDING, json=ref("Ended" if action == "abort" else "Standing"))},
            refuses=_NO_SESSION, rights=_STEERED,
        )
        for action, says in _ACTIONS.items()
    ),
)  # fmt: skip
_OPENED = {101: answer("The socket is open.")}
_SOCKET_CALLS = (
    Call(
        "get", "/v1/ws", "openSocket", "sockets",
        "Open a socket for any number of sessions", _OPENED,
        takes=("delivery",), refuses=(InvalidRequest,), ticket=True,
    ),
    Call(
        "get", "/v1/sessions/{sid}/ws", "openSessionSocket", "sockets",
        "Open a socket for one session",
        _OPENED,
        takes=("after", "delivery"), refuses=(InvalidRequest, BadCursor, *_NO_SESSION), ticket=True,
    ),
)  # fmt: skip
_SERVER_CALLS = (
    Call(
        "get", "/v1/models", "listModels", "server", "Say what may be asked for",
        {200: answer("The models.", json=ref("Models"))},
    ),
    Call(
        "get", "/v1/inspect", "inspect", "server", "Watch what all nodes and their sessions do",
        {200: answer("A stream without an end: an event a second.", sse=ref("ForeignSent"))},
        takes=("after", "lastEventId"), refuses=(BadCursor,), rights=(Right.ADMIN,),
    ),
    Call(
        "get", "/healthz", "isAlive", "server", "Say that the process answers",
        {200: answer("It does.", json=ref("Health"))}, rights=None,
    ),
    Call(
        "get", "/readyz", "isReady", "server", "Say whether new clients are welcome",
        {200: answer("They are.", json=ref("Health"))},
        refuses=(StoreUnavailable, Draining), rights=None,
    ),
    Call(
        "get", "/openapi.json", "describe", "server", "Return this document",
        {200: answer("The document.", json={"type": "object"})}, rights=None,
    ),
)  # fmt: skip
CALLS = (*_START_CALLS, *_SESSION_CALLS, *_CONVERSATION_CALLS, *_SOCKET_CALLS, *_SERVER_CALLS)
