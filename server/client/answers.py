"""Answers that are errors, as the errors that they are."""

from typing import Any

import aiohttp
import msgspec

from server.client.items import UNREADABLE
from server.client.reports import Hangup
from server.errors import RateLimited, TokenwireError, TooSlow, UpstreamFailed

PASSING = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that may be different next time."""
_COME_BACK = frozenset({TooSlow.close, RateLimited.close})

Refusal = TokenwireError | Hangup


def _tree(kind: type[TokenwireError]) -> list[type[TokenwireError]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in _tree(sub))]


async def error_in(response: aiohttp.ClientResponse) -> Refusal:
    """Read the error in an answer; one that no server of ours wrote gets its status' own."""
    try:
        told: dict[str, Any] = msgspec.json.decode(await response.read())["error"]
        kind = next(kind for kind in _tree(TokenwireError) if kind.code == told["code"])
        error: Refusal = kind(str(told.get("message") or kind.message))
    except (*UNREADABLE, LookupError, TypeError, StopIteration):
        error = error_of_status(response.status)
    after = response.headers.get("Retry-After", "")
    error.retry_after = float(after) if after.isdecimal() else None
    return error


def error_of_status(status: int) -> Refusal:
    """Return the error that a status alone stands for."""
    ours = [kind for kind in _tree(TokenwireError)[1:] if not issubclass(kind, UpstreamFailed)]
    kind = next((kind for kind in ours if kind.status == status), None)
    if kind is not None:
        return kind()
    what = f"the server answered {status}"
    return Hangup(what) if status in PASSING else TokenwireError(what)


def error_of_close(code: int | None) -> TokenwireError | None:
    """Return the error that a close code stands for; None if one should come back."""
    if code is None or code < 4000 or code in _COME_BACK:
        return None
    return next((kind() for kind in _tree(TokenwireError) if kind.close == code), None)


def is_passing(error: Refusal) -> bool:
    """Say whether it may be different next time."""
    return isinstance(error, Hangup) or error.status in PASSING
