"""For the operator at a terminal: what runs on a server, one session's stream, its facts, its end.

A key, where the server wants one, comes from the variable TW_TOKEN or a file, since everyone may see a
process's arguments.
"""

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from server.ops import asking
from server.ops.arguments import Parser
from server.ops.asking import CREDENTIAL, Failure, Server, printable
from server.settings import SettingsError

AGAIN = 0.5  # seconds until a stream that broke off is asked for again
PATIENCE = 60.0  # seconds of trying that
NOTICES = ("session", "paused", "resumed", "reset", "moving", "ping")


def _parser(name: str, about: str, *, session: bool = True) -> argparse.ArgumentParser:
    parser = Parser(prog=f"tokenwire {name}", description=about)
    default = f"http://127.0.0.1:{os.environ.get('TOKENWIRE_PORT') or os.environ.get('PORT') or 8080}"
    parser.add_argument("--url", default=default, help=f"the server; by default {default}")
    parser.add_argument("--key-file", metavar="FILE", help=f"file with a key; else {CREDENTIAL}")
    parser.add_argument("--json", action="store_true", help="print what the server says, as it says it")
    if session:
        parser.add_argument("session", type=lambda sid: quote(sid, safe=""), help="a session's id")
    return parser


def _run(given: argparse.Namespace, work: Callable[[Server, argparse.Namespace], int]) -> int:
    key = os.environ.get(CREDENTIAL)
    try:
        if given.key_file:
            key = Path(given.key_file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise SettingsError(f"--key-file: {reason}") from None
    return asking.run(partial(work, Server.at(given.url, key), given))


def sessions(argv: Sequence[str]) -> int:
    """List recent sessions, newest first."""
    parser = _parser("sessions", "List recent sessions, newest first.", session=False)
    parser.add_argument("--limit", type=int, default=20, help="how many, at most 200")
    return _run(parser.parse_args(argv), _sessions)


def _sessions(server: Server, given: argparse.Namespace) -> int:
    found = server.json("GET", "/v1/sessions", "sessions", limit=given.limit)["sessions"]
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
    session = server.json("GET", f"/v1/sessions/{given.session}", "text")
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
    answer = server.json("POST", f"/v1/sessions/{given.session}/abort", "upstream_closed")
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
                for item in _items(server, answer):
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


def _items(server: Server, answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield what a stream brings until it ends or breaks off; raise `Failure` if it is none of ours."""
    said = answer.status == 204
    with suppress(OSError, http.client.HTTPException):
        for line in answer:
            if line.endswith(b"\n"):  # else it broke off in the middle
                yield _item(server, line)
                said = True
    if not said:
        raise server.strange(lasting=False)


def _item(server: Server, line: bytes) -> dict[str, Any]:
    try:
        item: dict[str, Any] = json.loads(line)
        if item["type"] in NOTICES or isinstance(item["id"], str):
            return item
    except (ValueError, KeyError, TypeError):
        pass
    raise server.strange(lasting=True)
