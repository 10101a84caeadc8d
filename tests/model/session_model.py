"""The session store and everyone who uses it, as one state and the steps that lead out of it."""

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.redis_model import Entry, Log, Meta, Redis, closed, live, prefix
from tests.model.rules import Rules


class Setup(NamedTuple):
    """One search: what the upstream says, who takes part, and how many faults of each kind."""

    rules: Rules = Rules()
    batches: tuple[int, ...] = (1, 2)
    ends: bool = True
    """Whether the upstream ends in `done`; one that does not can only be closed by others."""
    created: bool = True
    aborter: bool = False
    deleter: bool = False
    viewer: bool = True
    stale_restore: bool = False
    """Whether a restore whose answer got lost may still arrive later."""
    empties: bool = True
    resurrects: bool = False
    """Whether a replica that a failover passed over may still become Redis later."""
    connections_survive: bool = True
    """Whether a failover may go unnoticed, behind a proxy."""
    rollbacks: int = 0
    losses: int = 0
    crashes: int = 0
    ticks: int = 0
    takeover: str = ""
    """What heirs do: `continue` or `restart`."""
    heirs: int = 0

    @property
    def last(self) -> int:
        """The seq of the upstream's last event."""
        return sum(self.batches) + self.ends


class Producer(NamedTuple):
    """One upstream into one log. `renewed` is when its lease was last granted, by its own clock.

    An heir is nobody ("none"), `reads` what to go on from, and is a producer once it has inherited.
    """

    name: str = "P"
    status: str = "new"
    memory: Log = ()
    acked: int = 0
    checked: bool = True
    """Whether the log was looked at on this connection."""
    low: bool = False
    """Whether the last append was answered "equal or smaller"."""
    plan: str = ""
    renewed: int = 0
    adopted: bool = False
    base: Log = ()
    """Ghost: the log behind which an heir goes on."""

    @property
    def alive(self) -> bool:
        return self.status in ("run", "closed")

    @property
    def heir(self) -> bool:
        return self.name != "P"


class State(NamedTuple):
    """All there is; `wrong` names a broken promise."""

    redis: Redis = Redis()
    replica: Redis = Redis()
    writers: tuple[Producer, ...] = (Producer(),)
    """The producer, then its heirs."""
    now: int = 0
    next_epoch: int = 1
    claiming: Entry | None = None
    aborting: int = 0
    """0: not asked; 1: acknowledged, asks again; 2: has stopped; 3: was told CLOSED at once."""
    deleting: int = 0
    seen: Log = ()
    stale: tuple[Log, int] | None = None
    rollbacks: int = 0
    losses: int = 0
    crashes: int = 0
    ticks: int = 0
    finals: frozenset[tuple[int, int, str]] = frozenset()
    """Ghost: every final event that others than the producer ever wrote."""
    claimed: int = -1
    """Ghost: when somebody last took over from the producer."""
    wiped: bool = False
    """Ghost: a delete happened, and Redis has not been rolled back since."""
    wrong: str = ""

    def lapsed(self) -> bool:
        """Say whether the lease has lapsed; one that is gone renews no more."""
        meta = live(self.redis, self.now)
        owners = [each.alive for each in self.writers if meta and each.name == meta.owner]
        return meta is not None and (meta.lease < self.now or not any(owners))


Step = tuple[str, State, bool]
Steps = Iterator[Step]


def start(setup: Setup) -> State:
    """Return the state in which a search begins."""
    state = State(
        rollbacks=setup.rollbacks,
        losses=setup.losses,
        crashes=setup.crashes,
        ticks=setup.ticks,
    )
    heirs = tuple(Producer(f"H{n}", "none") for n in range(setup.heirs))
    if not setup.created:
        return state._replace(writers=(Producer(), *heirs))
    marker = Entry(1, 1, 0, 1)
    redis = Redis(Meta(1, "P", 0), (marker,))
    producer = Producer("P", "run", (marker,), 1)
    return state._replace(redis=redis, writers=(producer, *heirs), next_epoch=2)


def change(state: State, who: Producer, **changes: object) -> State:
    """Return the state with one of its producers changed."""
    changed = [each._replace(**changes) if each.name == who.name else each for each in state.writers]
    return state._replace(writers=tuple(changed))


def mint(state: State, rules: Rules) -> int:
    """Return a new epoch: above all there ever were, or only above what Redis now knows."""
    if rules.fresh_epochs:
        return state.next_epoch
    meta, log = state.redis.meta, state.redis.log
    return max(meta.epoch if meta else 0, log[-1].epoch if log else 0) + 1


def wrote(state: State, redis: Redis) -> State:
    """Note the final event that somebody else than the producer has just written."""
    final = redis.log[-1] if redis.log else None
    state = state._replace(redis=redis, next_epoch=state.next_epoch + 1)
    if final is None or not final.final:
        return state
    for epoch, seq, kind in state.finals:
        if (epoch, seq) == final.id and kind != final.final:
            return state._replace(wrong=f"{final.id} is {kind} and {final.final}")
    return state._replace(finals=state.finals | {(*final.id, final.final)})


def invariant(state: State, setup: Setup) -> str:
    """Say what must never be, of any state."""
    log = prefix(state.redis.log)
    finals = [entry for entry in state.redis.log or () if entry.final]
    if state.wrong:
        return state.wrong
    if len(finals) > 1 and prefix(state.redis.log) == state.redis.log:
        return "two final events"
    if any(entry.final for entry in log[:-1]):
        return "the log goes on after its final event"
    if closed(log) and log[-1].final == "done" and log[-1].last != setup.last:
        return "done, but not whole"
    if not setup.connections_survive and log != (state.redis.log or ()):
        return "a hole, though no connection survived"
    return _mixed(state, log) or _misled(state, log)


def _mixed(state: State, log: Log) -> str:
    for heir in state.writers[1:]:
        wrote = any(entry.by == heir.name for entry in log)
        if wrote and log[: len(heir.base)] != heir.base:
            return "an heir's events behind a log that it does not know"
    return ""


def _events(log: Log) -> tuple[tuple[int, str], ...]:
    return tuple((e.epoch, e.by) for e in log for _ in range(e.first, e.last + 1))


def _misled(state: State, log: Log) -> str:
    # The rule of the cursor: a log that holds the viewer's last event holds all that came before.
    seen, held = _events(state.seen), _events(log)
    at = len(seen)
    if at and held[at - 1 : at] == seen[-1:] and held[:at] != seen:
        return "a good cursor on another history"
    return ""


def quiescent(state: State, setup: Setup) -> str:
    """Say what must not be once everyone has done all there was to do."""
    redis, alive = state.redis, [each for each in state.writers if each.alive]
    meta, log = live(redis, state.now), redis.log
    if state.deleting:
        return "deleted, but there" if meta is not None or log is not None else ""
    if meta is None or log is None:
        return "lost, though its producer lives" if alive else ""
    if prefix(log) != log:
        return "a hole that nobody heals"
    runs = any(each.status == "run" for each in alive)
    if not closed(log) and not (runs and not setup.ends and state.aborting in (0, 3)):
        return "a log that nobody ends"
    if any(log != each.memory for each in alive):
        return "a living producer's tokens are lost"
    if setup.viewer and state.seen != log:
        return "a viewer that does not reach the end"
    return ""
