"""The parameters that calls take, by the name under which their tables have them (pure)."""

from typing import Any

from server.openapi.calls import ref

_CURSOR = "(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})"
_SID = "[A-Za-z0-9_-]{22,64}"
_PLACE = {"type": "string", "pattern": f"^({_CURSOR})?$", "examples": ["1795219200123-42"]}
_ANY_PLACE = {"type": "string", "pattern": f"^(({_SID}\\.)?{_CURSOR})?$"}
_SHORT = {"type": "string", "minLength": 1, "maxLength": 200}


def _given(
    place: str, name: str, schema: dict[str, Any], says: str, needed: bool = False
) -> dict[str, Any]:
    required = needed or place == "path"
    return {"in": place, "name": name, "required": required, "schema": schema, "description": says}


def _number(top: int, **rest: Any) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": top} | rest


PARAMETERS: dict[str, dict[str, Any]] = {
    "sid": _given("path", "sid", ref("SessionId"), "The session."),
    "name": _given("path", "name", _SHORT, "The conversation, or chat."),
    "id": _given("path", "id", ref("ResponseId"), "The response."),
    "model": _given("path", "model", _SHORT, "The model."),
    "after": _given("query", "after", _PLACE, "Read on behind this event. `Last-Event-ID` wins."),
    "lastEventId": _given("header", "Last-Event-ID", _PLACE, "The last event that the client has."),
    "afterAny": _given("query", "after", _ANY_PLACE, "As `after`; may name the session it is of."),
    "lastEventIdAny": _given("header", "Last-Event-ID", _ANY_PLACE, "The last event's id, as it came."),
    "lastEventIdOfSession": _given(
        "header",
        "Last-Event-ID",
        {"type": "string", "pattern": f"^({_SID}\\.{_CURSOR})?$"},
        "Sent by a browser that comes back: goes on there, and starts nothing.",
    ),
    "stream": _given(
        "query",
        "stream",
        {"enum": ["sse", "ndjson", "text"]},
        "The stream's form; else `Accept` says it.",
    ),
    "delivery": _given(
        "query",
        "delivery",
        {"enum": ["each", "merged"], "default": "each"},
        "`merged`: one event may stand for `n` neighbours of its kind.",
    ),
    "format": _given(
        "query", "format", {"enum": ["openai", "ai-sdk"]}, "Stream in this dialect instead of ours."
    ),
    "prompt": _given("query", "prompt", {"type": "string"}, "What to ask.", needed=True),
    "askedModel": _given("query", "model", _SHORT, "Which model to ask; else the server's default."),
    "offset": _given("query", "offset", _number(1_000_000, default=0), "How many to leave out."),
    "limit": _given("query", "limit", _number(200, default=50), "How many to list."),
    "idempotencyKey": _given(
        "header",
        "Idempotency-Key",
        {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
        "The same key and body start one session, however often they come.",
    ),
    "conversationId": _given(
        "header",
        "X-Conversation-Id",
        _SHORT,
        "A name for a row of sessions; the run then outlives its connection.",
    ),
    "producerSeq": _given(
        "header",
        "Producer-Seq",
        _number(999_999_999_999_999),
        "The body's number in a row: one that came before is not taken twice.",
    ),
    "final": _given("query", "final", {"const": "done"}, "The body's clean end is the session's."),
    "goOn": _given("query", "stream", {"enum": ["true", "false"]}, "`true`: stream what is to come."),
    "endedToo": _given(
        "query", "ended", {"enum": ["true", "false"]}, "`true`: the latest answer, be it over."
    ),
    "startingAfter": _given(
        "query",
        "starting_after",
        _number(999_999_999_999_999),
        "With `stream=true`: the number of the last event that the client has.",
    ),
}
