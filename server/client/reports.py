"""What a client has to say beside a session's events: reports on its connections, and errors."""

import logging
from typing import NamedTuple

from server.events import Cursor, FinalEvent

log = logging.getLogger("server.client")


class Opened(NamedTuple):
    """A connection stands, over `transport`, to the session `where`."""

    where: str
    transport: str


class Lost(NamedTuple):
    """A connection is gone, or did not come about; the next try is in `wait` seconds.

    `where` is a session's id, or the address of a call.
    """

    where: str
    why: str
    wait: float


class Refused(NamedTuple):
    """The server sent what does not follow the last event; nobody was shown it."""

    where: str
    what: str
    after: Cursor | None
    got: Cursor | None


Report = Opened | Lost | Refused


def log_report(report: Report) -> None:
    """Tell the log: a refusal is a warning, all else is for debugging."""
    log.log(logging.WARNING if isinstance(report, Refused) else logging.DEBUG, "%s", report)


class Unreachable(ConnectionError):
    """The server was not heard of for as long as the client has patience."""


class Closed(Exception):
    """The client was closed: nothing more is read over it, or asked."""


class BrokenStream(Exception):
    """The server sends, at one place, again and again what does not follow."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"{refused.what}: {refused.got} after {refused.after or 'the start'}")
        self.refused = refused


class Unfinished(Exception):
    """The answer is not whole: `final` says why, `text` is what there is of it."""

    def __init__(self, text: str, final: FinalEvent) -> None:
        super().__init__(str(final))
        self.text = text
        self.final = final


class Hangup(Exception):
    """The other side ended a connection, `clean` if it said that all was said.

    `retry_after` is when it wants us back, in seconds.
    """

    retry_after: float | None = None
    clean = False
