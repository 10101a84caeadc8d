"""For the operator at a terminal: what runs on a server, one session's stream, its facts, its end.

Plain HTTP to a running server, as any client would. A key, where the server wants one, comes from
the variable OPERATOR_KEY or a file, since everyone may see a process's arguments.
"""

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from server import urls
from server.ops.arguments import Parser
from server.settings import SettingsError

TIMEOUT = 60.0  # seconds without a byte; a stream gives a sign of life every `heartbeat`
AGAIN = 0.5  # seconds until a stream that broke off is asked for again
PATIENCE = 60.0  # seconds of trying that
NOTICES = ("session", "paused", "resumed", "reset", "moving", "ping")


class Failure(Exception):
    """The server refuses or cannot be reached; the message is one line. `lasting`: for good."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


class Server(NamedTuple):
    """A running server, and the key it is asked with."""

    url: str
    key: str | None

    @contextmanager
    def ask(self, method: str, path: str, **query: Any) -> Iterator[http.client.HTTPResponse]:
        """Yield the answer, whose body is still to be read; raise `Failure`."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        target = f"{parts.path.rstrip('/')}{path}" + (f"?{urlencode(query)}" if query else "")
        with closing(kind(parts.hostname or "", parts.port, timeout=TIMEOUT)) as connection:
            try:
                connection.request(method, target, headers=headers)
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException):
                raise Failure(f"{urls.masked(self.url)} cannot be reached", lasting=False) from None
            with answer:
                if answer.status >= 400:
                    raise Failure(_complaint(answer), lasting=answer.status < 500)
                yield answer

    def json(self, method: str, path: str, **query: Any) -> Any:
        """Return the answer's body; raise `Failure`."""
        with self.ask(method, path, **query) as answer:
            try:
                return json.loads(answer.read())
            except (ValueError, OSError, http.client.HTTPException):
                raise Failure(f"{urls.masked(self.url)} is no tokenwire", lasting=True) from None


def _complaint(answer: http.client.HTTPResponse) -> str:
    try:
        return f"{printable(json.loads(answer.read())['error']['message'])} ({answer.status})"
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status}"


def printable(text: str) -> str:
    """Return a text that cannot steer a terminal: its control characters as `?`, but for line ends."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def _parser(name: str, about: str, *, session: bool = True) -> argparse.ArgumentParser:
    parser = Parser(prog=f"tokenwire {name}", description=about)
    default = f"http://127.0.0.1:{os.environ.get('TOKENWIRE_PORT') or os.environ.get('PORT') or 8080}"
    parser.add_argument("--url", default=default, help=f"the server; by default {default}")
    parser.add_argument("--key-file", metavar="FILE", help="file with a key; else OPERATOR_KEY")
    parser.add_argument("--json", action="store_true", help="print what the server says, as it says it")
    if session:
        parser.add_argument("session", type=lambda sid: quote(sid, safe=""), help="a session's id")
    return parser


def _run(given: argparse.Namespace, work: Callable[[Server, argparse.Namespace], int]) -> int:
    key = os.environ.get("OPERATOR_KEY")
    try:
        urls.http(given.url)
        if given.key_file:
            key = Path(given.key_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"--key-file: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"--url: {error}") from None
    try:
        return work(Server(given.url, key or None), given)
    except Failure as error:
        print(f"tokenwire: {error}", file=sys.stderr)
        return 1


def sessions(argv: Sequence[str]) -> int:
    """List recent sessions, newest first."""
    parser = _parser("sessions", "List recent sessions, newest first.", session=False)
    parser.add_argument("--limit", type=int, default=20, help="how many, at most 200")
    return _run(parser.parse_args(argv), _sessions)


def _sessions(server: Server, given: argparse.Namespace) -> int:
    found = server.json("GET", "/v1/sessions", limit=given.limit)["sessions"]
    if given.json:
        print(json.dumps(found))
        return 0
    rows = [("SESSION", "STATUS", "EVENTS", "AGE", "MODEL"), *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    return 0


def _row(session: dict[str, Any]) -> tuple[str, ...]:
    status = f"{session['status']}, paused" if session["paused"] else session["status"]
    age = f"{max(0.0, time.time() - session['created'] / 1000):.0f} s"
    return session["id"], status, str(session["seq"]), age, printable(session["model"])


def inspect(argv: Sequence[str]) -> int:
    """Show a session's facts; its text only if that is asked for."""
    parser = _parser("inspect", "Show a session's facts.")
    parser.add_argument("--text", action="store_true", help="its text, too")
    return _run(parser.parse_args(argv), _inspect)


def _inspect(server: Server, given: argparse.Namespace) -> int:
    session = server.json("GET", f"/v1/sessions/{given.session}")
    text = session.pop("text")
    session |= {"text": text} if given.text else {"characters": len(text)}
    if given.json:
        print(json.dumps(session))
        return 0
    for name, value in session.items():
        print(f"{name:13} {printable(value) if isinstance(value, str) else json.dumps(value)}")
    return 0


def abort(argv: Sequence[str]) -> int:
    """Abort a session, and say whether the upstream's connection is closed."""
    return _run(_parser("abort", "Abort a session.").parse_args(argv), _abort)


def _abort(server: Server, given: argparse.Namespace) -> int:
    answer = server.json("POST", f"/v1/sessions/{given.session}/abort")
    if given.json:
        print(json.dumps(answer))
        return 0
    took = answer["upstream_close_ms"]
    closed = "closed" if answer["upstream_closed"] else "not known to be closed"
    how = f" in {took} ms" if took is not None else ""
    print(f"{answer['status']} at {answer['id']}; upstream {closed}{how}")
    return 0


def tail(argv: Sequence[str]) -> int:
    """Print a session's text as it comes, over broken connections; 1 if it does not end in `done`."""
    parser = _parser("tail", "Follow a session.")
    parser.add_argument("--after", metavar="ID", help="an event's id, to read on from there")
    return _run(parser.parse_args(argv), _tail)


def _tail(server: Server, given: argparse.Namespace) -> int:
    for item in _follow(server, f"/v1/sessions/{given.session}/events", given.after):
        if given.json:
            print(json.dumps(item), flush=True)
        elif "content" in item:
            print(printable(item["content"]), end="", flush=True)
        else:
            print(f"\n[{_told(item)}]", file=sys.stderr, flush=True)
        if item["type"] in ("aborted", "error"):
            return 1
    return 0


def _told(item: dict[str, Any]) -> str:
    facts = {name: value for name, value in item.items() if name != "type" and value is not None}
    return " ".join([item["type"], *(f"{name}={printable(str(value))}" for name, value in facts.items())])


def _follow(server: Server, path: str, after: str | None) -> Iterator[dict[str, Any]]:
    """Yield events and notices up to the end, over as many connections as it takes."""
    until = time.monotonic() + PATIENCE
    final = False
    while not final:
        try:
            query = {"stream": "ndjson"} | ({"after": after} if after else {})
            with server.ask("GET", path, **query) as answer:
                for item in _items(answer):
                    until = time.monotonic() + PATIENCE
                    if item["type"] not in NOTICES:
                        after = item["id"]
                        final = item["type"] in ("done", "aborted", "error")
                    elif item["type"] == "reset":
                        after = None
                    if item["type"] != "ping":
                        yield item
                final = final or answer.status == 204
        except Failure as failure:
            if failure.lasting or time.monotonic() >= until:
                raise
        time.sleep(0 if final else AGAIN)


def _items(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield what a stream brings until it ends or breaks off."""
    lines = iter(answer)
    while True:
        try:
            yield json.loads(next(lines))
        except (StopIteration, ValueError, OSError, http.client.HTTPException):
            return
