"""`tokenwire token`: makes an API key, or has a running server issue a ticket."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from server.callers import Right, rights_of
from server.ops import asking, keys
from server.ops.arguments import Parser
from server.ops.asking import CREDENTIAL, Server
from server.settings import SettingsError


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code; raise `SettingsError`."""
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
        server = Server.at(given.url, os.environ.get(CREDENTIAL))
        return asking.run(partial(_ticket, server, given.session, sorted(rights), given.ttl))
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
            descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "rb+") as opened:
                opened.write(f"{_line_end(opened)}{kept.line}\n".encode())
        except OSError as error:
            raise SettingsError(f"{file}: {error.strerror}") from None
    print(key)


def _line_end(file: BinaryIO) -> str:
    """Return what the last line of a file lacks: an editor may have left it without its end."""
    if not file.seek(0, os.SEEK_END):
        return ""
    file.seek(-1, os.SEEK_END)
    return "" if file.read(1) == b"\n" else "\n"


def _ticket(server: Server, sid: str, rights: Sequence[str], ttl: float) -> int:
    """Have a server issue a ticket; print the URL to follow the session with."""
    order = {"rights": rights, "ttl": ttl}
    told = server.json("POST", f"/v1/sessions/{quote(sid, safe='')}/tickets", "url", order)
    parts = urlsplit(server.url)
    print(f"{parts.scheme}://{parts.netloc}{told['url']}")
    return 0
