"""What schemathesis, in its own process, is told: which requests get inside, and what a hang is.

Random names of models would end every start before it began, and a pause of a week would be taken for
a hang. A body of text breaks off when its session fails, since it could not say so otherwise.
"""

import json
import re
import time
from typing import Any

import requests
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

PATIENCE = 60.0
"""Seconds for a whole answer, streams too: only to tell a hang."""
FAIR = {
    # What no schema says: sockets want an upgrade, plain text has no ids, what an item says counts.
    "GET /v1/ws": "invalid_request",
    "GET /v1/sessions/{sid}/ws": "invalid_request",
    "GET /api/chat": "invalid_request",
    "GET /api/chat/ws": "invalid_request",
    "GET /v1/sessions/{sid}/events": "bad_cursor",
    "GET /v1/conversations/{name}/events": "bad_cursor",
    "GET /v1/responses/{id}": "invalid_request",
    "POST /v1/responses": "invalid_request",
    "POST /api/chat": "invalid_request",
    "POST /v1/sessions/{sid}/events": "bad_event",
    "PUT /v1/sessions/{sid}/events": "bad_event",
}
"""Refusals of requests that are good by their schemas, beside 410."""
_asked: dict[str, float] = {}


@schemathesis.serializer("application/x-ndjson", "text/event-stream")
def as_it_is(context: Any, value: Any) -> dict[str, bytes]:
    """Send a body of lines as it is, and anything else as JSON."""
    return {"data": (value if isinstance(value, str) else json.dumps(value)).encode()}


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Drop what is no fault: a refusal that is fair, or under another status than is looked for."""
    if isinstance(failure, AcceptedNegativeData):
        # The header wins over `after`, whatever that is.
        return response.status_code < 400 and "Last-Event-ID" not in (case.headers or {})
    if isinstance(failure, RejectedPositiveData):
        code = response.json()["error"]["code"]
        return code not in ("gone", FAIR.get(case.operation.label))
    return True


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Bring a request down to earth, and note when it was made."""
    if isinstance(case.body, dict):
        _tame(case.body)
    for fields in (case.query, case.headers):
        for name in ("after", "Last-Event-ID") if fields else ():
            _reach(fields, name)
    if case.query:
        _name(case.query)
        if case.operation.label == "POST /v1/sessions" and len(str(case.body)) % 4:
            case.query.pop("stream", None)  # whose answer leads nowhere
    kwargs["hooks"] = {"response": _read}
    _asked[case.id] = time.monotonic()


def _tame(body: dict[str, Any]) -> None:
    _name(body)
    options = body.get("session")
    if not isinstance(options, dict):
        return
    if isinstance(options.get("pause_ttl"), int | float):
        options["pause_ttl"] = min(options["pause_ttl"], 0.5)
    if isinstance(options.get("hold_limit"), float):  # which a schema takes for an integer
        options["hold_limit"] = round(options["hold_limit"])


def _reach(fields: Any, name: str) -> None:
    """Make a cursor one of an early event: for one that is ahead of the log a server waits."""
    if found := re.fullmatch(r"(.*\d-)(\d+)", str(fields.get(name, ""))):
        fields[name] = f"{found[1]}{int(found[2]) % 100}"


def _name(fields: dict[str, Any]) -> None:
    """Ask for the model that there is, three times out of four; what is too long stays so."""
    model = fields.get("model")
    if isinstance(model, str) and len(model) <= 200 and len(model) % 4 != 3:
        fields["model"] = "demo"


def _read(response: requests.Response, *args: Any, **kwargs: Any) -> None:
    kind = response.headers.get("Content-Type", "")
    if kind.startswith("text/plain") or response.url.partition("?")[0].endswith("/raw"):
        try:
            response.content  # noqa: B018
        except requests.RequestException:
            response._content = b""


@schemathesis.check
def comes_to_an_end(ctx: Any, response: Any, case: Any) -> None:
    """Fail for an answer that was not whole in time."""
    took = time.monotonic() - _asked.pop(case.id)
    assert took < PATIENCE, f"{took:.1f} s"
