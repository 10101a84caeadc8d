"""How a call is written down in the tables, and how OpenAPI spells it out (pure)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from server.callers import Right
from server.errors import (
    Draining,
    Forbidden,
    NoSuchPath,
    RateLimited,
    StoreUnavailable,
    TokenwireError,
    Unauthorized,
)

Json = dict[str, Any]
Errors = tuple[type[TokenwireError], ...]
JSON, SSE, NDJSON, TEXT = "application/json", "text/event-stream", "application/x-ndjson", "text/plain"
_ANYBODY: Errors = (Forbidden, RateLimited)
_KNOWN: Errors = (Unauthorized, Forbidden, RateLimited, StoreUnavailable, Draining)


class Call(NamedTuple):
    """One method of one path; `gives` are its answers by status, without those in the error's shape.

    `takes` names parameters, `refuses` are the errors that not every call may end in, `rights` what it
    takes to call it (None: nothing). It may be shown a `ticket`. With `passes_on`, an upstream's failure
    is answered, too, under the upstream's own status.
    """

    method: str
    path: str
    id: str
    tag: str
    says: str
    gives: Mapping[int, Json]
    takes: tuple[str, ...] = ()
    body: Json | None = None
    refuses: Errors = ()
    rights: tuple[Right, ...] | None = (Right.READ,)
    ticket: bool = False
    passes_on: bool = False


def ref(name: str) -> Json:
    """Return a reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(says: str, *, headers: Iterable[str] = (), links: Json | None = None, **content: Json) -> Json:
    """Return an answer; `content` is by media type, or under `json`, `sse`, `ndjson`, `text`."""
    told: Json = {"description": says}
    if headers:
        told["headers"] = {name: _HEADERS[name] for name in headers}
    if content:
        told["content"] = {_TYPES[kind]: {"schema": schema} for kind, schema in content.items()}
    return told | ({"links": links} if links else {})


def link(id: str, says: str, /, **parameters: str) -> Json:
    """Return where an answer leads: to the call `id`, its parameters taken from the answer."""
    return {"operationId": id, "description": says, "parameters": parameters}


def body(schema: Json, *examples: Json, required: bool = True) -> Json:
    """Return a JSON body."""
    told: Json = {"schema": schema}
    if examples:
        told["examples"] = {str(at): {"value": example} for at, example in enumerate(examples, 1)}
    return {"required": required, "content": {JSON: told}}


_TYPES = {"json": JSON, "sse": SSE, "ndjson": NDJSON, "text": TEXT, "any": "*/*"}
_HEADERS: Mapping[str, Json] = {
    "Location": {"description": "The session's path.", "schema": {"type": "string"}},
    "X-Session-Id": {"description": "The session.", "schema": ref("SessionId")},
    "x-vercel-ai-ui-message-stream": {"schema": {"const": "v1"}},
}
_RETRY: Json = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}


def operation(call: Call) -> Json:
    """Return the operation object of a call."""
    named = [*re.findall(r"{(\w+)}", call.path), *call.takes]
    told: Json = {
        "operationId": call.id,
        "tags": [call.tag],
        "summary": call.says,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in named],
        "responses": {str(status): given for status, given in _answers(call).items()},
        "security": _security(call),
    }
    return told if call.body is None else told | {"requestBody": call.body}


def _security(call: Call) -> list[Json]:
    if call.rights is None:
        return []
    rights = [str(right) for right in call.rights]
    shown: list[Json] = [{"key": rights}, {"cookie": rights}]
    return [*shown, {"ticket": rights}] if call.ticket else shown


def _answers(call: Call) -> Json:
    kinds = {*(_ANYBODY if call.rights is None else _KNOWN), *call.refuses}
    if "{" in call.path:
        kinds.add(NoSuchPath)
    codes: dict[int, dict[str, str]] = {}
    for kind in sorted(kinds, key=lambda kind: (kind.status, kind.code)):
        codes.setdefault(kind.status, {})[kind.code] = kind.message
    refused: Json = {str(s): _refusal(found, call.passes_on) for s, found in codes.items()}
    if call.passes_on:
        refused |= {status: _refusal({}, True) for status in ("4XX", "5XX")}
    return {str(status): given for status, given in call.gives.items()} | refused


def _refusal(codes: Mapping[str, str], passes_on: bool) -> Json:
    """Return an answer in the shape of an error: with these codes, or any if it `passes_on`."""
    lines = [f"- `{code}`: {message}" for code, message in codes.items()]
    lines += ["- what the model server failed in, or how the run ended"] * passes_on
    schema = ref("Error")
    if not passes_on:
        schema |= {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}}
    return {
        "description": "\n".join(lines),
        "headers": {"Retry-After": _RETRY},
        "content": {JSON: {"schema": schema}},
    }
