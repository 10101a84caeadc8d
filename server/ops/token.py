"""`tokenwire token`: makes an API key, or has a running server issue a ticket."""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from server.callers import Right, rights_of
from server.errors import TokenwireError, Unauthorized
from server.ops import keys
from server.ops.arguments import Parser
from server.settings import SettingsError

CREDENTIAL = "TW_TOKEN"
"""The variable with the key that a ticket is asked for with; as an argument everybody would see it."""


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code; raise `SettingsError` or `TokenwireError`."""
    parser = Parser(
        prog="tokenwire token",
        description="Make an API key: the key goes to standard output, its line (name, rights, hash) "
        "into a file of keys or to standard error. With --session, print a ticket of a running server.",
        epilog=f"A ticket is asked for with the key in ${CREDENTIAL}.",
    )
    parser.add_argument("--name", default="default", help="whose key it is")
    parser.add_argument("--rights", help="of create, read, control, admin, with commas between them")
    parser.add_argument("--file", type=Path, help="file of keys to add it to")
    parser.add_argument("--session", metavar="SID", help="session to issue a ticket for")
    parser.add_argument("--ttl", type=float, default=60.0, help="seconds until the ticket must be shown")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the server's address")
    given = parser.parse_args(argv)
    try:
        rights = rights_of(given.rights or ("read" if given.session else "create,read,control"))
    except ValueError as error:
        raise SettingsError(f"--rights: {error}") from None
    if given.session:
        print(_ticket(given.url, given.session, sorted(rights), given.ttl))
    else:
        _key(given.name, rights, given.file)
    return 0


def _key(name: str, rights: frozenset[Right], file: Path | None) -> None:
    try:
        key, kept = keys.mint(name, rights)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if file is None:
        print(kept.line, file=sys.stderr)
    else:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "a") as opened:
                opened.write(kept.line + "\n")
        except OSError as error:
            raise SettingsError(f"{file}: {error.strerror}") from None
    print(key)


def _ticket(url: str, sid: str, rights: Sequence[str], ttl: float) -> str:
    """Ask a server for a ticket; return the URL to follow the session with."""
    headers = {"Content-Type": "application/json"}
    if credential := os.environ.get(CREDENTIAL):
        headers["Authorization"] = f"Bearer {credential}"
    base, body = url.rstrip("/"), json.dumps({"rights": rights, "ttl": ttl}).encode()
    request = urllib.request.Request(f"{base}/v1/sessions/{sid}/tickets", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return base.partition("/v1")[0] + str(json.load(response)["url"])
    except urllib.error.HTTPError as error:
        raise Unauthorized(f"{error.code}: {json.load(error)['error']['message']}") from None
    except (OSError, ValueError, KeyError) as error:
        raise TokenwireError(f"{base} does not answer as it should: {type(error).__name__}") from None
