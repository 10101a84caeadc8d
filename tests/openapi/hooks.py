"""What schemathesis, in its own process, is told: which requests get inside, and what a hang is.

Random names of models would end every start before it began, and a pause of a week would be taken for
a hang. A body of text breaks off when its session fails, since it could not say so otherwise.
"""

import os
import time
from typing import Any

import requests
import schemathesis

PATIENCE = float(os.environ.get("OPENAPI_PATIENCE", "20"))
"""Seconds for a whole answer, streams too: only to tell a hang."""
_asked: dict[str, float] = {}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Bring a request down to earth, and note when it was made."""
    if isinstance(case.body, dict):
        _tame(case.body)
    if isinstance(case.query, dict):
        _name(case.query)
    kwargs["hooks"] = {"response": _read}
    _asked[case.id] = time.monotonic()


def _tame(body: dict[str, Any]) -> None:
    _name(body)
    options = body.get("session")
    if isinstance(options, dict) and isinstance(options.get("pause_ttl"), int | float):
        options["pause_ttl"] = min(options["pause_ttl"], 1)


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
