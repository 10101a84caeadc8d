"""The schemas of what is sent and answered (pure); events and options as their structs declare them."""

from typing import Any

import msgspec

from server import events
from server.errors import TokenwireError, UpstreamFailed
from server.openapi.calls import ref
from server.session.state import Options, Status

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
COUNT: Json = {"type": "integer", "minimum": 0}
ANY: Json = {"type": "object"}
_NAME: Json = TEXT | {"minLength": 1, "maxLength": 200}
_CURSOR: Json = TEXT | {"pattern": "^[0-9]{1,16}-[0-9]{1,16}$"}


def maybe(schema: Json) -> Json:
    """Return the schema of what may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(schema: Json, least: int = 0) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": schema} | ({"minItems": least} if least else {})


def record(says: str, optional: tuple[str, ...] = (), /, **fields: Json) -> Json:
    """Return the schema of an object, whose fields are all there but the optional ones."""
    needed = [name for name in fields if name not in optional]
    told: Json = {"type": "object", "properties": fields, "required": needed}
    return told | ({"description": says} if says else {})


def _tree(kind: type[TokenwireError]) -> list[type[TokenwireError]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in _tree(sub))]


_NATIVE = [kind for kind in _tree(TokenwireError) if not issubclass(kind, UpstreamFailed)]
_ERROR = record(
    "What went wrong, to be told apart by `code`; `param` is for OpenAI's clients, and always null.",
    error=record(
        "",
        ("retry_after", "param"),
        code=TEXT,
        message=TEXT,
        type={"enum": sorted({kind.type for kind in _NATIVE})},
        retry_after={"type": "number", "minimum": 0, "description": "Seconds."},
        param={"type": "null"},
    ),
)

_FACTS: Json = {
    "id": ref("SessionId"),
    "conversation": maybe(TEXT),
    "model": TEXT,
    "created": COUNT | {"description": "Unix milliseconds."},
    "paused": FLAG,
    "gate": maybe(COUNT) | {"description": "The highest `seq` that may be delivered while paused."},
    "timings": maybe({"type": "object", "additionalProperties": {"type": "number"}}),
    "status": {"enum": [str(status) for status in Status]},
    "epoch": COUNT,
    "seq": COUNT | {"description": "The last event's number."},
}
_WHOLE: Json = {"viewers": COUNT, "text": TEXT, "usage": maybe(ANY)}
_STANDING: Json = {name: _FACTS[name] for name in ("status", "paused", "gate")} | {"id": _CURSOR}
_CLOSED: Json = {
    "upstream_closed": FLAG,
    "upstream_close_ms": maybe({"type": "number"}),
    "node": maybe(TEXT),
}
_SESSION: Json = {
    "SessionId": TEXT | {"pattern": "^[A-Za-z0-9_-]{22,64}$"},
    "Session": record("A session.", **_FACTS, **_WHOLE),
    "Summary": record("A session, without its text.", **_FACTS),
    "Sessions": record(
        "A page of sessions.", sessions=list_of(ref("Summary")), offset=COUNT, limit=COUNT
    ),
    "Standing": record(
        "Where a session stands; `session` for a conversation's.",
        ("session",),
        **_STANDING,
        session=ref("SessionId"),
    ),
    "Ended": record(
        "The same of one that has ended, and whether its upstream's connection is closed.",
        ("session",),
        **_STANDING,
        **_CLOSED,
        session=ref("SessionId"),
    ),
    "Pushed": record(
        "Where the log stands with a pushed body.",
        session=ref("SessionId"),
        id=_CURSOR,
        status=_FACTS["status"],
        duplicate=FLAG,
    ),
    "Ticket": record(
        "A permission for one session.",
        ticket=TEXT,
        rights=list_of({"enum": ["read", "control"]}, 1),
        by={"type": "number", "description": "To be shown first until then; Unix seconds."},
        url=TEXT,
        ws_url=TEXT,
    ),
    "TicketOrder": record(
        "What a ticket is to permit, and the seconds in which it must be shown first.",
        ("rights", "ttl"),
        rights=list_of({"enum": ["read", "control"]}, 1)
        | {"maxItems": 2, "uniqueItems": True, "default": ["read"]},
        ttl={"type": "number", "minimum": 1, "maximum": 3600, "default": 60},
    )
    | {"additionalProperties": False},
}
MODEL: Json = maybe(TEXT | {"maxLength": 200}) | {"description": "Default: the server's."}
MESSAGE: Json = {
    "type": "object",
    "description": "A message, as OpenAI has it: `role`, `content` and more. Passed on as it is.",
    "examples": [{"role": "user", "content": "Hello"}],
}
_START: Json = {
    "Start": {
        "description": "A chat-completions body, or a prompt; what is not known here is passed on.",
        "type": "object",
        "properties": {
            "prompt": TEXT,
            "messages": list_of(ref("Message"), 1),
            "model": MODEL,
            "session": ref("Options"),
        },
        "oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}],
    },
    "StartPush": record(
        "Starts a session whose events are pushed.",
        ("model", "session"),
        upstream={"const": "push"},
        model=MODEL,
        session=ref("Options"),
    )
    | {"not": {"anyOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}},
    "Message": MESSAGE,
}
_NOTICE = record(
    "A notice: not in the log, without an id.", type={"enum": ["paused", "resumed", "moving"]}
)
_EVENT_ID: Json = TEXT | {"pattern": "^([A-Za-z0-9_-]{22,64}\\.)?[0-9]{1,16}-[0-9]{1,16}$"}


def _sent(event: Json, data: Json, optional: tuple[str, ...] = ("id", "retry")) -> Json:
    """Return the schema of a server-sent event."""
    return record("", optional, event=event, data=data, id=_EVENT_ID, retry=COUNT)


def _json(schema: Json) -> Json:
    """Return the schema of a text that is JSON of some kind."""
    return TEXT | {"contentMediaType": "application/json", "contentSchema": schema}


_NOTICES: Json = {
    "Notice": {"oneOf": [ref("SessionNotice"), ref("ResetNotice"), _NOTICE]},
    "SessionNotice": record(
        "Where the log stands; first on every attach. Over SSE its `type` is the event's.",
        ("type",),
        type={"const": "session"},
        **{name: _FACTS[name] for name in ("id", "status", "epoch", "seq", "paused", "gate", "model")},
    ),
    "ResetNotice": record(
        "Drop what you hold, and read on from here.",
        type={"const": "reset"},
        reason=TEXT,
        epoch=COUNT,
    ),
    "Line": {
        "description": "A line of NDJSON: an event with its id (a call's: `call_id`), a notice, a ping.",
        "oneOf": [
            {"allOf": [ref("Event"), record("", ("n",), id=_CURSOR, n=COUNT)]},
            ref("Notice"),
            record("", type={"const": "ping"}),
        ],
    },
    "ServerSent": {
        "description": "A server-sent event: one of the log with its id, a notice by its name, the end.",
        "anyOf": [
            _sent({"const": "message"}, _json(ref("Event")), ("retry",)),
            _sent({"const": "session"}, _json(ref("SessionNotice"))),
            _sent({"enum": ["paused", "resumed", "reset", "moving"]}, _json(ANY)),
            _sent({"const": "message"}, {"const": "[DONE]"}),
        ],
    },
    "ForeignSent": _sent(TEXT, TEXT) | {"description": "A server-sent event in another dialect."},
}
_MODELS: Json = {
    "Model": record(
        "What may be asked for.",
        id=TEXT,
        object={"const": "model"},
        created=COUNT,
        owned_by=TEXT,
    ),
    "Models": record("All of them.", object={"const": "list"}, data=list_of(ref("Model"))),
    "Health": record("All is well.", status={"enum": ["ok", "ready"]}),
}


def _declared() -> Json:
    """Return what structs declare: the log's events, and a session's options."""
    kinds = (*events.FINAL, events.Content, events.Reasoning, events.ToolCall, events.Bytes)
    template = "#/components/schemas/{name}"
    _, told = msgspec.json.schema_components((*kinds, Options), ref_template=template)
    names = {kind.__name__: f"{kind.__name__}Event" for kind in kinds}
    union = [ref(name) for name in names.values()]
    renamed = {names.get(name, name): schema for name, schema in told.items()}
    return renamed | {"Event": {"description": "One item of a session's log.", "oneOf": union}}


SCHEMAS: Json = {"Error": _ERROR} | _SESSION | _START | _NOTICES | _MODELS | _declared()
