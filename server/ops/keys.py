"""API keys: only their hashes are kept, one a line: `name:right+right:sha256`.

A key is 256 random bits, so a plain hash gives nothing away; whoever looks one up compares hashes.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from server.callers import Caller, Right, rights_of
from server.ops.watched import Watched
from server.settings import SettingsError

PREFIX = "tw_"
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")


class Key(NamedTuple):
    """Whose a key is, and what it may."""

    name: str
    rights: frozenset[Right]
    hash: str

    @classmethod
    def parse(cls, line: str) -> "Key":
        """Read a line; raise `ValueError`, which does not quote it."""
        parts = line.split(":")
        if len(parts) != 3 or not _NAME.fullmatch(parts[0]) or not _HASH.fullmatch(parts[2]):
            raise ValueError("expected keys like name:create+read+control:<sha256 of the key>")
        try:
            return cls(parts[0], rights_of(parts[1]), parts[2])
        except ValueError:
            words = ", ".join(Right)
            raise ValueError(f"expected rights out of {words} in the key of {parts[0]}") from None

    @property
    def line(self) -> str:
        """The key as `parse` reads it."""
        return f"{self.name}:{'+'.join(r for r in Right if r in self.rights)}:{self.hash}"

    @property
    def caller(self) -> Caller:
        """Who shows it."""
        return Caller(f"key:{self.name}", self.rights, proof=self.hash)


def hash_of(key: str) -> str:
    """Return what is kept of a key."""
    return sha256(key.encode()).hexdigest()


def mint(name: str, rights: frozenset[Right]) -> tuple[str, Key]:
    """Return a new key and what is to be kept of it; raise `ValueError` for a bad name."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, Key.parse(Key(name, rights, hash_of(key)).line)


def parse(text: str) -> dict[str, Key]:
    """Read a file of keys by their hashes; `#` begins a comment."""
    lines = enumerate((line.partition("#")[0].strip() for line in text.splitlines()), 1)
    return _by_hash((f"line {number}: ", line) for number, line in lines if line)


def _by_hash(lines: Iterable[tuple[str, str]]) -> dict[str, Key]:
    found = {}
    for where, line in lines:
        try:
            key = Key.parse(line)
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None
        found[key.hash] = key
    return found


class KeyRing:
    """The keys of the settings and of a file; raise `SettingsError` if they are bad."""

    def __init__(self, lines: tuple[str, ...], path: Path | None) -> None:
        try:
            self._fixed = _by_hash(("", line) for line in lines)
        except ValueError as error:
            raise SettingsError(f"keys: {error}") from None
        self._file = Watched[Mapping[str, Key]](path, parse, {}) if path is not None else None

    def find(self, key: str) -> Caller | None:
        """Return who shows that key."""
        found = self._get(hash_of(key))
        return found.caller if found else None

    def holds(self, caller: Caller) -> bool:
        """Say whether the key that a caller has shown is still theirs and gives them what they have.

        Of a ticket it is the key that it was issued with: that of the session's owner, or an operator's.
        """
        key = self._get(caller.proof)
        if key is None:
            return False
        operates = Right.ADMIN in key.rights
        theirs = key.caller.principal == caller.principal or (operates and caller.ticket != "")
        return theirs and (operates or caller.rights <= key.rights)

    def _get(self, hash: str) -> Key | None:
        written: Mapping[str, Key] = self._file.value if self._file else {}
        return self._fixed.get(hash) or written.get(hash)
