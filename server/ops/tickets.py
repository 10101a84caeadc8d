"""Tickets: signed permissions for one session, for clients that can send no header (pure).

A ticket has to be shown for the first time within its `ttl`. Whoever has shown it may come back with
it, as a browser's EventSource does, for as long as the session has been followed with it; how that is
known on all nodes is the business of `server.session.ledger`.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable

import msgspec

from server.callers import Caller, Right

LIFE = 3600.0
"""Seconds after which a ticket is over, whoever still follows with it."""
GRACE = 60.0
"""Seconds in which whoever was cut off may come back."""
LEEWAY = 30.0
"""Seconds after `ttl` in which a ticket is still new: the clocks of two nodes differ."""
_VERSION = "t1"
_LETTERS = {Right.READ: "r", Right.CONTROL: "c"}
_RIGHTS = {letter: right for right, letter in _LETTERS.items()}


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What is signed; `by` (first shown) and `until` are Unix seconds."""

    id: str
    sid: str
    principal: str | None
    letters: str
    by: float
    until: float
    proof: str

    @property
    def caller(self) -> Caller:
        """Who shows it."""
        rights = frozenset(_RIGHTS[letter] for letter in self.letters)
        return Caller(self.principal, rights, self.sid, self.until, self.proof, self.id)


GIVEN = frozenset(_LETTERS)
"""The rights that a ticket may carry."""


def issue(
    minter: Caller, sid: str, owner: str | None, rights: Iterable[Right], ttl: float, now: float
) -> Ticket:
    """Return a ticket for a session of `owner`; it is over when its minter's credentials are."""
    letters = "".join(_LETTERS[right] for right in sorted(rights))
    until = min(now + max(LIFE, ttl), minter.until)
    return Ticket(secrets.token_urlsafe(12), sid, owner, letters, now + ttl, until, minter.proof)


def sign(ticket: Ticket, secret: bytes) -> str:
    """Return the ticket as a text that fits into a URL and a header."""
    body = f"{_VERSION}.{_text(msgspec.msgpack.encode(ticket))}"
    return f"{body}.{_text(_mac(body, secret))}"


def verify(text: str, secret: bytes) -> Ticket | None:
    """Return the ticket if its signature is ours; whether it is still good is another matter."""
    body, _, mac = text.rpartition(".")
    version, _, packed = body.partition(".")
    try:
        genuine = hmac.compare_digest(_bytes(mac), _mac(body, secret))
        if not genuine or version != _VERSION:
            return None
        return msgspec.msgpack.decode(_bytes(packed), type=Ticket)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        return None


def _mac(body: str, secret: bytes) -> bytes:
    # A NUL is in no idempotency key, which the same secret makes ids of.
    return hmac.digest(secret, b"ticket\0" + body.encode(), "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
