"""What a load test is to do, from its flags, and what it may be aimed at."""

import argparse
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import msgspec

from server.ops.arguments import Parser
from server.settings import SettingsError

TRANSPORTS = ("sse", "ws")
MOST_TOKENS = 100_000
PATIENCE = 15.0
"""Seconds after which what should have ended by then counts as unfinished."""


class Plan(msgspec.Struct, frozen=True):
    """Times in seconds, `rate` in tokens a second; a period of 0 means never."""

    url: str
    transports: tuple[str, ...]
    sessions: int
    viewers: int
    rate: float
    duration: float
    pause_every: float
    pause_for: float
    drop_every: float
    abort_share: float
    processes: int
    seed: int

    @property
    def tokens(self) -> int:
        """How many tokens a session has."""
        return max(1, round(self.rate * self.duration))

    @property
    def ramp(self) -> float:
        """The seconds over which the sessions start."""
        return min(self.duration / 4, self.sessions / 100)

    @property
    def most(self) -> float:
        """The seconds after which it is over in any case."""
        return self.ramp + self.duration + self.pause_for + PATIENCE


class Flags(msgspec.Struct, frozen=True):
    """The plan, and where its report goes."""

    plan: Plan
    out: Path


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        super().error(f"loadtest: {message}")


def parse(argv: Sequence[str]) -> Flags:
    """Read the flags; raise `SettingsError`, also for a target that may be somebody else's."""
    given = _parser().parse_args(argv)
    owned, out = given.i_own_this_server, given.out
    transports = tuple(given.transport.split(","))
    if strange := set(transports) - set(TRANSPORTS):
        raise SettingsError(f"loadtest: --transport: {min(strange)!r} is none of {', '.join(TRANSPORTS)}")
    names = set(Plan.__struct_fields__) - {"transports"}
    plan = Plan(transports=transports, **{name: getattr(given, name) for name in names})
    if plan.tokens > MOST_TOKENS:
        raise SettingsError(f"loadtest: rate times duration is over {MOST_TOKENS} tokens a session")
    if not owned and not is_loopback(plan.url):
        raise SettingsError(
            "loadtest: this is not a server of this machine; if it is yours, say --i-own-this-server"
        )
    return Flags(plan, out)


def is_loopback(url: str) -> bool:
    """Say whether all that the URL's host stands for is this very machine."""
    host = urlsplit(url).hostname
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(at[4][0])).is_loopback for at in found)


def _parser() -> _Parser:
    parser = _Parser(
        prog="tokenwire loadtest",
        description="Load a server with clients that check every token, and write a report.",
    )
    add = parser.add_argument
    add("url", type=_url, help="the server, for example http://127.0.0.1:8080")
    add("--transport", default=",".join(TRANSPORTS), metavar="LIST", help="sse, ws, or both in turn")
    add("--sessions", type=_count, default=50, metavar="N", help="sessions at a time (50)")
    add("--viewers", type=_count, default=2, metavar="N", help="viewers of each session (2)")
    add("--rate", type=_positive, default=30.0, metavar="N", help="tokens a second and session (30)")
    add("--duration", type=_positive, default=20.0, metavar="S", help="seconds a session lasts (20)")
    add("--pause-every", type=_amount, default=8.0, metavar="S", help="pause a session so often (8)")
    add("--pause-for", type=_positive, default=1.0, metavar="S", help="and for so long (1)")
    add("--drop-every", type=_amount, default=8.0, metavar="S", help="cut a viewer off so often (8)")
    add("--abort-share", type=_share, default=0.05, metavar="X", help="sessions to abort (0.05)")
    add("--processes", type=_count, default=_processes(), metavar="N", help="processes of clients")
    add("--seed", type=int, default=1, metavar="N", help="of its dice and of the text (1)")
    add("--out", type=Path, default=Path("loadtest-report"), metavar="DIR", help="where the report goes")
    add("--i-own-this-server", action="store_true", help="load a server that is not on this machine")
    return parser


def _processes() -> int:
    return max(2, (os.cpu_count() or 1) // 2)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError("expected a URL like http://127.0.0.1:8080")
    return text.rstrip("/")


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise ValueError
    return value


def _positive(text: str) -> float:
    value = _amount(text)
    if not value:
        raise ValueError
    return value


def _share(text: str) -> float:
    value = _amount(text)
    if value > 1:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 < value <= 100_000:
        raise ValueError
    return value
