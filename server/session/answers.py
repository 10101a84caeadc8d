"""What the store answers: the scripts' and the reads' replies as values (pure)."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from server.events import Cursor
from server.session.log import Entry


class Flag(StrEnum):
    """The first word of a script's answer."""

    OK = "OK"
    EXISTS = "EXISTS"
    CONFLICT = "CONFLICT"
    CLOSED = "CLOSED"
    HELD = "HELD"
    SPENT = "SPENT"
    FENCED = "FENCED"
    MOVED = "MOVED"
    LATE = "LATE"
    LOST = "LOST"
    GONE = "GONE"
    DELETED = "DELETED"


class Shut(NamedTuple):
    """A shut gate: nothing above `seq` is delivered, for `left` more seconds."""

    seq: int
    left: float


class Turn(NamedTuple):
    """The gate since its latest turn; each pause and each resume is one, above all before it."""

    number: int = 0
    shut: Shut | None = None

    @property
    def gate(self) -> int | None:
        """The highest seq that may be delivered, or None."""
        return self.shut.seq if self.shut else None


class Meta(NamedTuple):
    """A session's hash. `lease` is the seconds that are left of it; `gone` is the tombstone."""

    epoch: int
    owner: str
    lease: float
    turn: Turn
    gone: bool
    report: bytes | None
    spec: bytes
    digest: str


class Read(NamedTuple):
    """A page of the log and the hash, read at one moment; `meta` is None when there is no hash."""

    meta: Meta | None
    entries: tuple[Entry, ...]

    @property
    def closed(self) -> bool:
        """Whether the log has its final event, if its last entry was read."""
        return bool(self.entries) and self.entries[-1].final

    @property
    def there(self) -> bool:
        """Whether it is there, or its tombstone; a hash alone is a lease put back: the log follows."""
        return self.meta is not None and (self.meta.gone or bool(self.entries))


class Renewal(NamedTuple):
    """What Redis holds of a session: its epoch, last entry, number of entries and of viewers.

    `watched` says whether it has had any viewer at all, `now_ms` is Redis'
    clock, `dense` says that the log has no hole; to whom leaves after the end, that it is whole.
    """

    flag: Flag
    epoch: int = 0
    top: Cursor | None = None
    entries: int = 0
    viewers: int = 0
    watched: bool = False
    now_ms: int = 0
    dense: bool = False


class Controlled(NamedTuple):
    """The state after a control: where the log ends, its final event if it has one, the gate."""

    flag: Flag
    cursor: Cursor = Cursor(0, 0)
    ordinal: int = 0
    final: bytes | None = None
    turn: Turn = Turn()

    @property
    def closing(self) -> Entry | None:
        """The entry with which this very control closed the log."""
        if self.flag is not Flag.OK or self.final is None:
            return None
        return Entry(self.cursor.epoch, self.cursor.seq, self.ordinal, (self.final,), final=True)


META_FIELDS = ("epoch", "owner", "lease", "gate", "gone", "report", "spec", "digest")


def parse_turn(value: bytes | None, now_ms: int) -> Turn:
    """Read `<turn>` or `<turn> <seq> <until ms>`; a pause that has lapsed is no gate."""
    number, *shut = map(int, (value or b"0").split())
    if not shut or shut[1] <= now_ms:
        return Turn(number)
    return Turn(number, Shut(shut[0], (shut[1] - now_ms) / 1000))


def parse_time(reply: Sequence[bytes]) -> int:
    """Return Redis' clock in milliseconds."""
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


def parse_meta(fields: Sequence[bytes | None], now_ms: int) -> Meta | None:
    """Read the `META_FIELDS`."""
    epoch, owner, lease, gate, gone, report, spec, digest = fields
    if gone is None and epoch is None:
        return None
    return Meta(
        epoch=int(epoch or 0),
        owner=(owner or b"").decode(),
        lease=(int(lease or 0) - now_ms) / 1000,
        turn=parse_turn(gate, now_ms),
        gone=gone is not None,
        report=report,
        spec=spec or b"",
        digest=(digest or b"").decode(),
    )


def parse_entries(rows: Sequence[tuple[bytes, list[bytes]]]) -> tuple[Entry, ...]:
    """Read what XRANGE returns."""
    entries: list[Entry] = []
    epoch, prefix = 0, b"?"
    for id, fields in rows:
        if len(fields) == 2 and id.startswith(prefix):  # as nearly all of a log's thousands are
            head, _, events = fields[1].partition(b"\n")
            first, ordinal = head.split()
            lines = tuple(events.split(b"\n")) if b"\n" in events else (events,)
            entries.append(Entry(epoch, int(first), int(ordinal), lines))
        else:
            entries.append(Entry.parse(id, fields))
            epoch = entries[-1].epoch
            prefix = b"%d-" % epoch
    return tuple(entries)


def parse_renewal(reply: Sequence[bytes]) -> Renewal:
    """Read renew.lua's answer."""
    flag = Flag(reply[0].decode())
    if flag is not Flag.OK:
        return Renewal(flag, int(reply[1]) if len(reply) > 1 else 0)
    _, epoch, top, count, viewers, nodes, now, dense = reply
    cursor = Cursor.parse(top.decode()) if top else None
    return Renewal(
        flag, int(epoch), cursor, int(count), int(viewers), int(nodes) > 0, int(now), dense == b"1"
    )


def parse_controlled(reply: Sequence[bytes]) -> Controlled:
    """Read control.lua's answer."""
    flag = Flag(reply[0].decode())
    if len(reply) == 1:
        return Controlled(flag)
    _, epoch, id, first, ordinal, final, number, gate, left = reply
    seq = Cursor.parse(id.decode()).seq or int(first) - 1
    turn = Turn(int(number), Shut(int(gate), int(left) / 1000) if gate else None)
    return Controlled(flag, Cursor(int(epoch), seq), int(ordinal), final or None, turn)
