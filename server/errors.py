"""The one tree of errors: each knows its code, HTTP status and WebSocket close code (pure).

Raise them anywhere; one middleware answers them over HTTP and the socket's loop answers them over
WebSocket. A message is for the client: it never holds an upstream's body, a key or a stack.
"""

from typing import Any, ClassVar


class TokenwireError(Exception):
    """Base of everything that a client may be told."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    close: ClassVar[int] = 1011
    type: ClassVar[str] = "server_error"
    message: str = "The server failed."
    retry_after: float | None = None

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message or self.message)
        self.message = message or self.message
        self.retry_after = self.retry_after if retry_after is None else retry_after

    def as_dict(self) -> dict[str, Any]:
        """Return the body of the `error` member of an answer."""
        told = {"code": self.code, "message": self.message, "type": self.type}
        return told if self.retry_after is None else told | {"retry_after": self.retry_after}


class InvalidRequest(TokenwireError):
    """The request itself is wrong; asking again the same way will fail the same way."""

    code, status, close, type = "invalid_request", 400, 1008, "invalid_request_error"
    message = "The request is not valid."


class BadJson(InvalidRequest):
    """The body or frame is not a JSON object."""

    code, message = "bad_json", "Expected one JSON object."


class BadCursor(InvalidRequest):
    """The cursor is not `<epoch>-<seq>`."""

    code, message = "bad_cursor", "A cursor is <epoch>-<seq>, for example 1795219200123-42."


class BadEvent(InvalidRequest):
    """An item of a pushed body is no event; what was before it is in the log, it is not."""

    code = "bad_event"


class UnknownType(InvalidRequest):
    """The frame's `type` is none of the protocol's."""

    code, message = "unknown_type", "Unknown message type."


class UnknownModel(InvalidRequest):
    """No upstream serves that model."""

    code, status, message = "unknown_model", 404, "No upstream serves this model."


class TooLarge(InvalidRequest):
    """The body or frame is over the limit."""

    code, status, close = "too_large", 413, 1009
    message = "The body is too large."


class MethodNotAllowed(InvalidRequest):
    """That path knows other methods."""

    code, status, message = "method_not_allowed", 405, "This path does not know that method."


class UnsupportedMediaType(InvalidRequest):
    """The body is not JSON."""

    code, status, message = "unsupported_media_type", 415, "The body must be application/json."


class Unauthorized(TokenwireError):
    """No valid credentials."""

    code, status, close, type = "unauthorized", 401, 4401, "authentication_error"
    message = "Valid credentials are needed."


class Forbidden(TokenwireError):
    """The credentials do not allow it, or the page's origin is foreign."""

    code, status, close, type = "forbidden", 403, 4403, "permission_error"
    message = "This is not allowed."


class ForeignPage(Forbidden):
    """A page of another origin made a browser ask."""

    message = "This origin is not allowed."


class NotFound(TokenwireError):
    """No such session, or not yours."""

    code, status, close, type = "not_found", 404, 4404, "not_found_error"
    message = "There is no such session."


class NoSuchPath(NotFound):
    """Nothing lives at that path."""

    code, message = "no_such_path", "Nothing is served at this path."


class Gone(TokenwireError):
    """The session was here and is not any more."""

    code, status, close, type = "gone", 410, 4410, "gone_error"
    message = "The session has expired or was deleted."


class Conflict(TokenwireError):
    """The same idempotency key came with another body."""

    code, status, close, type = "idempotency_conflict", 409, 1008, "conflict_error"
    message = "This Idempotency-Key was used with another body."


class SessionClosed(Conflict):
    """The session has ended, so nothing can be pushed into it."""

    code, message = "session_closed", "This session has ended."


class PushConflict(Conflict):
    """The session takes no pushed body, not this one, or not now; the message says which."""

    code, message = "push_conflict", "Another body is being pushed into this session."


class WrongNode(Conflict):
    """A push came to a node that does not run the session."""

    code, status = "wrong_node", 421
    message = "Another node runs this session: push to that one, or connect again."


class Busy(TokenwireError):
    """The conversation's newest session is still running, and the prompt said to refuse then."""

    code, status, close, type = "conversation_busy", 409, 1008, "conflict_error"
    message = "This conversation is busy: its last answer is still running."


class TooSlow(TokenwireError):
    """The client does not read what it asked for."""

    code, status, close, type = "too_slow", 408, 4408, "timeout_error"
    message = "The client reads too slowly."


COME_BACK = 5.0
"""Seconds after which one may ask again for what nobody knows the end of."""


class RateLimited(TokenwireError):
    """Over a limit."""

    code, status, close, type = "rate_limited", 429, 4429, "rate_limit_error"
    message = "Too many requests."


class StoreUnavailable(TokenwireError):
    """Redis cannot be reached or does not take writes now."""

    code, status, close, type = "store_unavailable", 503, 1012, "server_error"
    message = "The store cannot be reached; try again."
    retry_after = 1.0


class Draining(TokenwireError):
    """This node is shutting down; another one will answer."""

    code, status, close, type = "draining", 503, 1012, "server_error"
    message = "This node is shutting down; connect again."
    retry_after = 1.0


class UpstreamFailed(TokenwireError):
    """The upstream failed; ends the session in an `error` event of this code.

    `upstream_status` is the upstream's own HTTP status, if it answered with one.
    """

    code, status, type = "upstream_error", 502, "upstream_error"
    message = "The model server failed."
    retryable: bool = True

    def __init__(
        self,
        message: str | None = None,
        *,
        retryable: bool | None = None,
        upstream_status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retryable = self.retryable if retryable is None else retryable
        self.upstream_status = upstream_status


class UpstreamRejected(UpstreamFailed):
    """The upstream answered 4xx: the request or the key is wrong."""

    code, retryable, message = "upstream_rejected", False, "The model server refused the request."


class UpstreamRateLimited(UpstreamFailed):
    """The upstream answered 429 (or 503) for longer than we may wait."""

    code, status, message = "upstream_rate_limited", 429, "The model server is overloaded."


class UpstreamUnreachable(UpstreamFailed):
    """No connection: refused, timed out, or the name does not resolve."""

    code, message = "upstream_unreachable", "The model server cannot be reached."


class UpstreamStall(UpstreamFailed):
    """The upstream sent nothing for too long."""

    code, status, message = "upstream_stall", 504, "The model server stopped sending."


class UpstreamTruncated(UpstreamFailed):
    """The upstream ended without its own end mark."""

    code, message = "upstream_truncated", "The model server's stream broke off."


class UpstreamInvalid(UpstreamFailed):
    """The upstream sent something that is not its protocol."""

    code, retryable, message = "upstream_invalid", False, "The model server sent something unreadable."
