"""How the tools at a terminal ask a running server: plain HTTP, as any client would.

The key goes to that very server alone: no redirect is followed, and no proxy of the environment is asked.
"""

import http.client
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

from server import urls
from server.settings import SettingsError

CREDENTIAL = "TW_TOKEN"
"""The variable with the key that a server is asked with; as an argument everybody would see it."""
TIMEOUT = 60.0
"""Seconds without a byte; a stream gives a sign of life every `heartbeat`."""


class Failure(Exception):
    """The server refuses or cannot be reached; the message is one line. `lasting`: for good."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


class Server(NamedTuple):
    """A running server, and the key it is asked with."""

    url: str
    key: str | None

    @classmethod
    def at(cls, url: str, key: str | None) -> Self:
        """Return the server at what `--url` says; raise `SettingsError`."""
        try:
            return cls(urls.http(url), key or None)
        except ValueError as error:
            raise SettingsError(f"--url: {error}") from None

    @contextmanager
    def ask(
        self, method: str, path: str, body: Any = None, **query: Any
    ) -> Iterator[http.client.HTTPResponse]:
        """Yield the answer, whose body is still to be read; raise `Failure`."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        content = json.dumps(body) if body is not None else None
        target = f"{parts.path.rstrip('/')}{path}" + (f"?{urlencode(query)}" if query else "")
        with closing(kind(parts.hostname or "", parts.port, timeout=TIMEOUT)) as connection:
            try:
                connection.request(method, target, content, headers)
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException):
                raise Failure(f"{urls.masked(self.url)} cannot be reached", lasting=False) from None
            with answer:
                if answer.status >= 300:
                    raise Failure(_complaint(answer), lasting=answer.status < 500)
                yield answer

    def json(self, method: str, path: str, wanted: str, body: Any = None, **query: Any) -> dict[str, Any]:
        """Return the answer's body, an object with a field `wanted`; raise `Failure`."""
        with self.ask(method, path, body, **query) as answer:
            try:
                found = json.loads(answer.read())
                if isinstance(found, dict) and wanted in found:
                    return found
            except (ValueError, OSError, http.client.HTTPException):
                pass
        raise self.strange(lasting=True)

    def strange(self, *, lasting: bool) -> Failure:
        """Return the failure of a server that says what none of ours would."""
        return Failure(f"{urls.masked(self.url)} is no tokenwire", lasting=lasting)


def run(work: Callable[[], int]) -> int:
    """Return the exit code of what asks a server; a failure is one line, and 1."""
    try:
        return work()
    except Failure as error:
        print(f"tokenwire: {error}", file=sys.stderr)
        return 1


def _complaint(answer: http.client.HTTPResponse) -> str:
    try:
        return f"{printable(json.loads(answer.read())['error']['message'])} ({answer.status})"
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        return f"the server answered {answer.status}"


def printable(text: str) -> str:
    """Return a text that cannot steer a terminal: its control characters as `?`, but for line ends."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
