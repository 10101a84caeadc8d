"""JSON Web Tokens of somebody else's login: who it says asks, if it is theirs and still good.

A key decides the algorithm, never the token: a public key is no HMAC secret, and `none` is no algorithm.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import orjson
from jwt.exceptions import PyJWTError

from server.callers import Caller, Right
from server.ops.watched import Watched

LEEWAY = 5.0
"""Seconds by which clocks may differ."""
LEAST_SECRET = 32
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "oct": "HS256"}


class _Key(NamedTuple):
    kid: str | None
    algorithm: str
    key: Any


def parse(text: str) -> tuple[_Key, ...]:
    """Read a JWKS with at least one key for us; raise `ValueError`, which does not quote it."""
    try:
        keys = tuple(key for found in orjson.loads(text)["keys"] if (key := _key(found)) is not None)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        keys = ()
    if not keys:
        raise ValueError("expected a JWKS with RSA, P-256 or octet keys")
    return keys


def _key(found: Any) -> _Key | None:
    """Return a key; None for one that we cannot use, which a set may hold (RFC 7517, section 5)."""
    try:
        algorithm = _ALGORITHMS[found["kty"]]
        made = jwt.PyJWK(found, algorithm)
        short = algorithm == "HS256" and len(made.key) < LEAST_SECRET
        fits = found.get("alg", algorithm) == algorithm and found.get("crv", "P-256") == "P-256"
    except (KeyError, TypeError, AttributeError, ValueError, PyJWTError):
        return None
    ours = fits and not short and found.get("use", "sig") == "sig"
    return _Key(found.get("kid"), algorithm, made.key) if ours else None


class Tokens:
    """Reads tokens signed with a shared secret or a key of a JWKS file."""

    def __init__(
        self, secret: str | None, jwks: Path | None, issuer: str | None, audience: str | None
    ) -> None:
        self._fixed = (_Key(None, "HS256", secret.encode()),) if secret else ()
        self._file = Watched[tuple[_Key, ...]](jwks, parse, ()) if jwks is not None else None
        self._issuer = issuer
        self._audience = audience

    def find(self, token: str) -> Caller | None:
        """Return who shows that token."""
        try:
            header = jwt.get_unverified_header(token)
        except PyJWTError:
            return None
        for key in self._candidates(header.get("alg"), header.get("kid")):
            try:
                return _caller(self._claims(token, key))
            except (PyJWTError, ValueError):
                continue
        return None

    def _candidates(self, algorithm: Any, kid: Any) -> Iterable[_Key]:
        for key in (*self._fixed, *(self._file.value if self._file else ())):
            if key.algorithm == algorithm and (key.kid == kid or None in (key.kid, kid)):
                yield key

    def _claims(self, token: str, key: _Key) -> dict[str, Any]:
        return jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "sub"]},
        )


def _caller(claims: dict[str, Any]) -> Caller:
    """Read the claims: `scope` names the rights, `sid` the one session that they are for."""
    subject, scope, sid = claims["sub"], claims.get("scope", ""), claims.get("sid")
    if not (isinstance(subject, str) and 0 < len(subject) <= 256 and isinstance(scope, str)):
        raise ValueError
    if not (sid is None or isinstance(sid, str)):
        raise ValueError
    words = set(scope.split())
    rights = frozenset(right for right in Right if right in words)
    return Caller(f"jwt:{subject}", rights, sid, min(float(claims["exp"]), math.inf))
