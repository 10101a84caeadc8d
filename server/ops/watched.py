"""A file of credentials, read again when it changes."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from server.settings import SettingsError

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks."""

T = TypeVar("T")


class Watched(Generic[T]):
    """What `parse` makes of a file's text; raise `SettingsError` if it cannot be read at first.

    A file that turns bad later, perhaps while it is being written, leaves what was read before; one that
    is gone or empty leaves `nothing`, unless it was there a moment ago and may be about to be written
    anew. Its content is never quoted.
    """

    def __init__(self, path: Path, parse: Callable[[str], T], nothing: T) -> None:
        self._path = path
        self._parse = parse
        self._nothing = nothing
        self._mark = self._look()
        self._value = self._read()
        self._next = time.monotonic() + LOOK

    @property
    def value(self) -> T:
        """What the file says, as of a second ago."""
        now = time.monotonic()
        if now >= self._next:
            self._refresh(seen_lately=now < self._next + LOOK)
            self._next = now + LOOK
        return self._value

    def _refresh(self, *, seen_lately: bool) -> None:
        mark = self._look()
        if mark is None and not (self._mark is not None and seen_lately):
            self._lose()
        if mark == self._mark:
            return
        self._mark = mark
        if mark is None:
            return
        try:
            self._value = self._read()
            log.info("%s was read again", self._path)
        except SettingsError as error:
            log.error("%s; what it said before still holds", error)

    def _lose(self) -> None:
        if self._value is not self._nothing:
            self._value = self._nothing
            log.error("%s is gone or empty; nothing that it said holds any more", self._path)

    def _look(self) -> tuple[int, int, int] | None:
        """Return what changes when the file does; None when there is nothing in it, or none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return 0, 0, error.errno or 0
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found.st_size else None

    def _read(self) -> T:
        try:
            return self._parse(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{self._path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{self._path}: not a text") from None
        except ValueError as error:
            raise SettingsError(f"{self._path}: {error}") from None
