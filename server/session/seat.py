"""Where a client of a session would read on."""

from dataclasses import dataclass

from server.events import Cursor
from server.session.tail import Tail


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a client would read on: the tail and the cursor's seq, or from the start after a reset."""

    tail: Tail
    cursor: Cursor
    reset: str | None = None

    @property
    def at_end(self) -> bool:
        """Whether nothing is left to deliver, now or ever."""
        log = self.tail.log
        return log.closed and self.reset is None and self.cursor.seq == log.head
