"""Redis as one session sees it: the hash, the log, and the store's scripts as pure functions.

Time is a count of leases' times: a lease granted at `t` runs while the clock still says `t`.
"""

from typing import NamedTuple

from tests.model.rules import Rules

TOMBSTONE_LEASES = 2


class Entry(NamedTuple):
    """Events `first … last` under one epoch; a marker has none. `final` is the final event's type.

    `by` tells whose events they are, which Redis cannot.
    """

    epoch: int
    first: int
    last: int
    k: int
    final: str = ""
    by: str = ""

    @property
    def id(self) -> tuple[int, int]:
        return self.epoch, self.last if self.last >= self.first else 0


Log = tuple[Entry, ...]


class Meta(NamedTuple):
    """The hash; `gone` makes it a tombstone, `lease` then says since when."""

    epoch: int
    owner: str
    lease: int
    report: bool = False
    gone: bool = False


class Redis(NamedTuple):
    """One session's keys; a log is None when its stream is missing."""

    meta: Meta | None = None
    log: Log | None = None


Answer = tuple[str, Redis]


def prefix(log: Log | None) -> Log:
    """Return the dense prefix: each entry begins where the one before ended."""
    head, kept = 0, 0
    for entry in log or ():
        if entry.first != head + 1 or entry.k != kept + 1:
            break
        head, kept = entry.last, kept + 1
    return (log or ())[:kept]


def dense(log: Log, rules: Rules) -> bool:
    """Say, as a script can at no cost, whether the log has lost nothing."""
    return not rules.ordinals or len(log) == log[-1].k


def closed(log: Log | None) -> bool:
    """Say whether the last entry ends the log."""
    return bool(log and log[-1].final)


def tombstone(meta: Meta | None, now: int) -> bool:
    """Say whether a tombstone stands."""
    return meta is not None and meta.gone and now < meta.lease + TOMBSTONE_LEASES


def live(redis: Redis, now: int) -> Meta | None:
    """Return the hash unless it is missing or a tombstone."""
    meta = redis.meta
    return None if meta is None or meta.gone else meta


def xadd(redis: Redis, entry: Entry) -> Answer:
    """XADD NOMKSTREAM with an explicit id."""
    if redis.log is None:
        return "nil", redis
    if redis.log and entry.id <= redis.log[-1].id:
        return "low", redis
    return "ok", redis._replace(log=(*redis.log, entry))


def extend(redis: Redis, entry: Entry, known: Log, owner: str) -> Answer:
    """An heir's append, behind the very entry that it believes to be the last."""
    meta, log = redis.meta, redis.log
    if meta is None or meta.owner != owner:
        return "FENCED", redis
    if not log or (log[-1].id, log[-1].k, len(log)) != (known[-1].id, len(known), len(known)):
        return "MOVED", redis
    return "ok", redis._replace(log=(*log, entry))


def create(redis: Redis, epoch: int, now: int, rules: Rules) -> Answer:
    """A new session with its marker, unless it is there."""
    if tombstone(redis.meta, now):
        return "GONE", redis
    meta = live(redis, now)
    if meta is not None:
        mine = rules.create_knows_owner and meta.owner == "P"
        return ("OK" if mine else "EXISTS"), redis
    return "OK", Redis(Meta(epoch, "P", now), (Entry(epoch, 1, 0, 1),))


def renew(redis: Redis, now: int, report: bool, owner: str = "P") -> Answer:
    """The owner's sign of life; a report says that the upstream is closed."""
    if tombstone(redis.meta, now):
        return "DELETED", redis
    meta = live(redis, now)
    if meta is None:
        return "GONE", redis
    if meta.owner != owner:
        return "FENCED", redis
    return "OK", redis._replace(meta=meta._replace(lease=now, report=meta.report or report))


def close(redis: Redis, meta: Meta, epoch: int, final: str, rules: Rules) -> Redis:
    """Cut the log to its dense prefix and end it there under a new epoch."""
    log = redis.log or ()
    kept = log if dense(log, rules) else prefix(log)
    last = kept[-1]
    entry = Entry(epoch, last.last + 1, last.last + 1, last.k + 1, final)
    return Redis(meta._replace(epoch=epoch), (*kept, entry))


def claim(redis: Redis, epoch: int, lapsed: bool, now: int, rules: Rules) -> Answer:
    """End a session whose lease has lapsed."""
    meta = live(redis, now)
    if meta is None:
        return "GONE", redis
    if closed(redis.log) and redis.log and dense(redis.log, rules):
        return "CLOSED", redis
    if not lapsed:
        return "HELD", redis
    if not redis.log:
        # Its producer had put its lease back, and died before it wrote the log.
        return "OK", Redis(Meta(0, "", now, gone=True))
    stranded = "" if rules.incomplete_is_error else redis.log[-1].final
    taken = meta._replace(owner="T", lease=-1)
    if not rules.atomic_claim:
        last = redis.log[-1]
        marker = Entry(epoch, last.last + 1, last.last, last.k + 1)
        return "OK", Redis(taken._replace(epoch=epoch), (*redis.log, marker))
    return "OK", close(redis, taken, epoch, stranded or "error", rules)


def inherit(
    redis: Redis, epoch: int, owner: str, behind: Log | None, lapsed: bool, now: int, rules: Rules
) -> Answer:
    """Hand a session to an heir, who has read the log `behind` which it goes on; None begins it anew."""
    meta = live(redis, now)
    if meta is None or not redis.log:
        return "GONE", redis
    if closed(redis.log) and dense(redis.log, rules):
        return "CLOSED", redis
    if meta.owner == owner:
        return "OK", redis
    if not lapsed:
        return "HELD", redis
    kept = prefix(redis.log) if behind is not None else ()
    if behind and rules.inherit_behind and (not kept or kept[-1].id != behind[-1].id):
        return "MOVED", redis
    if not rules.inherit_mints:
        return "OK", Redis(meta._replace(owner=owner, lease=now), kept)
    head = kept[-1].last if kept else 0
    marker = Entry(epoch, head + 1, head, len(kept) + 1)
    return "OK", Redis(Meta(epoch, owner, now), (*kept, marker))


def abort(redis: Redis, epoch: int, now: int, rules: Rules) -> Answer:
    """Close the log with `aborted`; the owner stays."""
    if tombstone(redis.meta, now):
        return "DELETED", redis
    meta = live(redis, now)
    if meta is None or not redis.log:
        return "GONE", redis
    if closed(redis.log):
        return "CLOSED", redis
    return "OK", close(redis, meta, epoch, "aborted", rules)


def wipe(redis: Redis, now: int, rules: Rules) -> Answer:
    """Delete the session and leave a tombstone."""
    if redis.meta is None and not rules.wipe_always_buries:
        return "GONE", redis
    return "OK", Redis(Meta(0, "", now, gone=True) if rules.tombstone else None)


def restore(
    redis: Redis,
    memory: Log,
    granted: int,
    now: int,
    rules: Rules,
    owner: str = "P",
    rows: bool = True,
) -> Answer:
    """Rewrite the log from its producer's memory, or without `rows` only the hash.

    `granted` is when its lease was last renewed.
    """
    if tombstone(redis.meta, now):
        return "DELETED", redis
    if rules.restore_deadline and granted < now:
        return "LATE", redis
    meta, log, mine = live(redis, now), redis.log, memory[-1]
    if rules.restore_checks_owner and meta is not None and meta.owner != owner:
        return "FENCED", redis
    known = max(meta.epoch if meta else 0, log[-1].epoch if log else 0)
    if rules.restore_checks_epoch and known > mine.epoch:
        return "MOVED", redis
    report = meta is not None and meta.report
    held = Meta(mine.epoch, owner, now, report)
    if (
        rules.restore_never_shortens
        and log
        and dense(log, rules)
        and log[-1].epoch == mine.epoch
        and log[-1].k >= mine.k
    ):
        return "OK", Redis(held, log)
    return "OK", Redis(held, memory if rows else log)
