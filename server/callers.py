"""Who asks, and what they may (pure).

The caller of a request is a context variable, set once where a request or a socket comes in. So no
route has to hand it on, and none can forget to: the node asks for it by itself.
"""

import math
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

from server.errors import Forbidden, NotFound, Unauthorized


class Right(StrEnum):
    """What a caller may do: to sessions of their own, or, with `admin`, to everybody's."""

    CREATE = "create"
    READ = "read"
    CONTROL = "control"
    ADMIN = "admin"


class Follows:
    """The viewers that somebody has with a ticket; `renew` says on all nodes that it is in use."""

    __slots__ = ("renew", "viewers")

    def __init__(self, renew: Callable[[], None]) -> None:
        self.renew = renew
        self.viewers = 0

    def begin(self) -> None:
        """Count one more viewer."""
        self.viewers += 1
        self.renew()

    def end(self) -> None:
        """Count one viewer less."""
        self.viewers -= 1


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody; `principal` is None for whoever asks a server that wants to know nobody's name.

    With a `session` the rights are for that one alone. They end at `until` (Unix seconds), and with the
    API key that `proof` names. `ticket` is the id of the ticket that was shown, and `follows` what it is
    used for.
    """

    principal: str | None
    rights: frozenset[Right]
    session: str | None = None
    until: float = math.inf
    proof: str = ""
    ticket: str = ""
    follows: Follows | None = field(default=None, compare=False, repr=False)

    def demand(self, right: Right, sid: str, owner: str | None) -> None:
        """Raise unless they may do that to a session of `owner`; to a stranger it is not there."""
        self.demand_known()
        mine = self.principal == owner or Right.ADMIN in self.rights
        if not mine or self.session not in (None, sid):
            raise NotFound()
        self._demand_right(right)

    def demand_start(self) -> None:
        """Raise unless they may start a session; they see what they start, so that takes two rights."""
        self.demand_known()
        if self.session is not None:
            raise Forbidden("A credential of one session starts no other.")
        self._demand_right(Right.CREATE)
        self._demand_right(Right.READ)

    def demand_admin(self) -> None:
        """Raise unless they are an operator."""
        self.demand_known()
        if self.session is not None:
            raise Forbidden("A credential of one session is no operator's.")
        self._demand_right(Right.ADMIN)

    def demand_known(self) -> None:
        """Raise unless they have said who they are, and it is still true."""
        if self is NOBODY:
            raise Unauthorized()
        if self.until <= time.time():
            raise Unauthorized("The credentials have expired.")

    def _demand_right(self, right: Right) -> None:
        if right not in self.rights and (Right.ADMIN not in self.rights or self.session is not None):
            raise Forbidden(f"The credentials do not include the right to {right}.")


OPEN = Caller(None, frozenset(Right))
"""Whoever asks, where no credentials are set up."""
NOBODY = Caller(None, frozenset())
"""Whoever has not said yet who they are."""

CALLER: ContextVar[Caller] = ContextVar("caller", default=OPEN)


def rights_of(words: str) -> frozenset[Right]:
    """Read rights, with `+`, a comma or blanks between them; raise `ValueError` for another word."""
    return frozenset(Right(word) for word in words.replace("+", " ").replace(",", " ").split())
