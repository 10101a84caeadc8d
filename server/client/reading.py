"""From frames to what a stream gives: in order, each once, or refused (pure)."""

from collections.abc import Iterable

from server.client import items
from server.client.items import Arrival, Attached, Frame, Moving, Paused, Resumed
from server.client.reports import Refused
from server.errors import BadCursor
from server.events import FINAL, Cursor, FinalEvent

_START = Cursor(0, 0)


class Reading:
    """One reader of one session: its place in the log, and what it was told beside.

    After a refusal nothing is taken until `refused` is cleared: what follows is of no use.
    """

    def __init__(self, sid: str, after: Cursor | None, merged: bool) -> None:
        self.sid = sid
        self.cursor = after
        self.paused = False
        self.final: FinalEvent | None = None
        self.refused: Refused | None = None
        self.at_end = False
        self._merged = merged

    def take(self, frames: Iterable[Frame]) -> list[Arrival]:
        """Return what of `frames` may be shown."""
        arrivals: list[Arrival] = []
        for frame in frames:
            if self.refused is not None or self.final is not None:
                break
            try:
                arrival = self._notice(frame) if frame.kind else self._event(frame)
            except (*items.UNREADABLE, BadCursor):
                self.refused = Refused(self.sid, "something unreadable", self.cursor, None)
                break
            if arrival is not None:
                arrivals.append(arrival)
        return arrivals

    def _event(self, frame: Frame) -> Arrival | None:
        id, n = Cursor.parse(frame.id), items.count_of(frame.data) if self._merged else 1
        event = items.event_of(frame.data)
        if (what := _wrong(self.cursor or _START, id, n)) is not None:
            self.refused = Refused(self.sid, what, self.cursor, id)
            return None
        self.cursor = id
        if isinstance(event, FINAL):
            self.final = event
        return Arrival(id, event, n)

    def _notice(self, frame: Frame) -> Arrival | None:
        notice = items.notice_of(frame)
        if isinstance(notice, Attached):
            have = (self.cursor or _START).seq
            self.at_end = notice.status != "running" and notice.seq == have
            return self._pause(Paused(notice.gate or 0) if notice.paused else Resumed())
        if isinstance(notice, Paused | Resumed):
            return self._pause(notice)
        if isinstance(notice, Moving):
            return None
        self.cursor, self.at_end = None, False
        return Arrival(None, notice)

    def _pause(self, notice: Paused | Resumed) -> Arrival | None:
        """Tell of a change; who comes back is told by every node where things stand."""
        before, self.paused = self.paused, isinstance(notice, Paused)
        return Arrival(None, notice) if before is not self.paused else None


def _wrong(have: Cursor, id: Cursor, n: int) -> str | None:
    """Say what is wrong with event `id`, which stands for `n`, after `have`."""
    if id.seq - n > have.seq:
        return "a gap"
    if id.seq - n < have.seq:
        return "a duplicate"
    return "an old epoch" if id.epoch < have.epoch else None
