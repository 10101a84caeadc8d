"""Failures in OpenAI's words: before a stream as a status, within it as an object (pure).

`x-should-retry` is what their clients obey before their own rules. An upstream's own status is passed
on; its words never are.
"""

import math
from typing import Any, NamedTuple

from server.errors import TokenwireError, UpstreamFailed, UpstreamRejected
from server.events import AbortReason, Done, Error, FinalEvent

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
_STATUSES: dict[str, int] = {
    **{kind.code: kind.status for kind in UpstreamFailed.__subclasses__()},
    UpstreamRejected.code: 400,
    "producer_lost": 503,
    "store_full": 503,
}
_ABORTS = {
    AbortReason.USER: (409, "The answer was aborted by a user."),
    AbortReason.ORPHANED: (409, "The answer was aborted: nobody was reading it."),
    AbortReason.SHUTDOWN: (503, "The server was shut down before the answer was whole."),
}


class Failure(NamedTuple):
    """What a client is told; `retry_after` in seconds."""

    status: int
    code: str
    message: str
    retryable: bool
    retry_after: float | None = None

    @property
    def type(self) -> str:
        """OpenAI's kind of error."""
        return _TYPES.get(self.status, "server_error")

    def as_dict(self) -> dict[str, Any]:
        """Return the `error` object."""
        return {"message": self.message, "type": self.type, "param": None, "code": self.code}

    def headers(self) -> dict[str, str]:
        """Return the headers that tell their clients whether to ask again, and when."""
        headers = {"x-should-retry": "true" if self.retryable else "false"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(math.ceil(self.retry_after))
            headers["Retry-After-Ms"] = str(math.ceil(self.retry_after * 1000))
        return headers


class Refused(Exception):
    """A request that is answered with a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def of_error(error: TokenwireError) -> Failure:
    """Return the failure that an error of ours is."""
    if isinstance(error, UpstreamFailed):
        return _failed(Error.of(error))
    retryable = error.status == 429 or error.status >= 500
    return Failure(error.status, error.code, error.message, retryable, error.retry_after)


def of_final(final: FinalEvent) -> Failure | None:
    """Return the failure in which a log ended; an answer that met a limit is merely cut, as by length."""
    if isinstance(final, Error):
        return _failed(final)
    if isinstance(final, Done) or final.reason is AbortReason.LIMIT:
        return None
    status, message = _ABORTS[final.reason]
    return Failure(status, "aborted", message, retryable=final.reason is not AbortReason.USER)


def finish_of(final: FinalEvent) -> str:
    """Return the finish reason of a log that did not fail."""
    if isinstance(final, Done):
        # What it was called before there were tools.
        return "tool_calls" if final.finish_reason == "function_call" else final.finish_reason
    return "length"


def refuse(final: FinalEvent) -> Refused | None:
    """Return what to raise for a log that ended so before any other event (`parts.Refuse`)."""
    failure = of_final(final)
    return Refused(failure) if failure else None


def _failed(end: Error) -> Failure:
    """Return the failure with the upstream's own status or, if it gave none, that of the code."""
    status = _STATUSES.get(end.code, 502)
    if end.status is not None:
        status = end.status if 400 <= end.status < 600 else 502
    return Failure(status, end.code, end.message, end.retryable, end.retry_after)
