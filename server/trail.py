"""What a log line or a span is about: the request and the session at hand, in context variables (pure).

Tasks that a request starts inherit both, so a session's producer still names the request it came by.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Protocol

REQUEST: ContextVar[str] = ContextVar("request", default="")
SESSION: ContextVar[str] = ContextVar("session", default="")

Fact = str | int | float | bool


class Span(Protocol):
    """A stretch of time that somebody records."""

    def tell(self, **facts: Fact) -> None:
        """Add what is known by now."""


Opener = Callable[[str, dict[str, Fact]], AbstractContextManager[Span]]


class _Unrecorded:
    def tell(self, **facts: Fact) -> None:
        pass


_nothing = nullcontext(_Unrecorded())
_openers: list[Opener] = []


def span(name: str, **facts: Fact) -> AbstractContextManager[Span]:
    """Return a span, which begins when it is entered; it is recorded once `record_with` was called."""
    return _openers[-1](name, facts) if _openers else _nothing


def record_with(opener: Opener) -> Callable[[], None]:
    """Have `opener` record spans from now on; return what ends that."""
    _openers.append(opener)
    return lambda: _openers.remove(opener)
