"""Entries as Redis keeps them: as they are or, with a key, sealed, so that its files tell little.

Sealed are the events' JSON and what was fixed at the start (AES-256-GCM, bound to session and place). In
the clear stay an entry's place, which scripts read, and the final event, which holds no text. What is
sealed names its key, so keys may change while logs live.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence
from typing import Protocol

from server.errors import StoreUnavailable
from server.session import answers
from server.session.log import Entry
from server.settings import SettingsError

KEY, NONCE = 32, 12
_MARK = b"\0"
"""Begins what is sealed; JSON never has it."""
Row = tuple[bytes, list[bytes]]


class _Aead(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


class Codec:
    """Makes entries into fields and back; `first` is the id of the key for new ones, empty for none."""

    def __init__(self, keys: Mapping[bytes, _Aead], first: bytes) -> None:
        self._keys = keys
        self._first = first

    def fields(self, sid: str, entry: Entry) -> tuple[bytes, ...]:
        """Return the fields to XADD."""
        fields = entry.fields()
        if not self._first or b"\n" not in fields[1]:
            return fields
        head, _, events = fields[1].partition(b"\n")
        return (b"e", b"\n".join((head, self.seal(sid, str(entry.id).encode(), events))), *fields[2:])

    def seal(self, sid: str, place: bytes, data: bytes) -> bytes:
        """Return data of a session for one place in Redis."""
        if not self._first:
            return data
        nonce = secrets.token_bytes(NONCE)
        sealed = self._keys[self._first].encrypt(nonce, data, sid.encode() + b" " + place)
        return _MARK + self._first + _MARK + nonce + sealed

    def entries(self, sid: str, rows: Sequence[Row]) -> tuple[Entry, ...]:
        """Read what XRANGE returns; raise `StoreUnavailable` if the key of an entry is not known."""
        if any(b"\n" + _MARK in fields[1] for _, fields in rows):
            rows = [(id, self._opened(sid, id, fields)) for id, fields in rows]
        return answers.parse_entries(rows)

    def _opened(self, sid: str, id: bytes, fields: list[bytes]) -> list[bytes]:
        head, _, events = fields[1].partition(b"\n")
        return [fields[0], b"\n".join((head, self.open(sid, id, events))), *fields[2:]]

    def open(self, sid: str, place: bytes, data: bytes) -> bytes:
        """Return what `seal` got; raise `StoreUnavailable` if that is not ours to read."""
        if data[:1] != _MARK:
            return data
        name, _, sealed = data[1:].partition(_MARK)
        key = self._keys.get(name)
        if key is None:
            raise StoreUnavailable("This log is sealed with a key that this server does not have.")
        from cryptography.exceptions import InvalidTag

        try:
            return key.decrypt(sealed[:NONCE], sealed[NONCE:], sid.encode() + b" " + place)
        except InvalidTag:
            raise StoreUnavailable("This log was changed by somebody without its key.") from None


PLAIN = Codec({}, b"")


def codec(setting: str | None) -> Codec:
    """Return the codec for `id:<32 bytes in base64>,…`, whose first key seals; raise `SettingsError`."""
    if setting is None:
        return PLAIN
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    keys: dict[bytes, _Aead] = {}
    for item in setting.split(","):
        name, _, text = item.strip().partition(":")
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            key = b""
        if not (name.isascii() and name.isalnum() and len(key) == KEY):
            raise SettingsError(
                "log_keys: expected keys like id:<32 bytes in base64>, with commas between"
            )
        keys[name.encode()] = AESGCM(key)
    return Codec(keys, next(iter(keys)))
