"""What everyone but the producer can do next, and what can fail."""

from tests.model import redis_model as store
from tests.model.heirs import succeed
from tests.model.producer import produce, stale_restore
from tests.model.redis_model import Entry, Redis, closed, live, prefix
from tests.model.session_model import Setup, State, Step, Steps, change, mint, wrote


def steps(state: State, setup: Setup) -> Steps:
    """Yield every step that is possible, and whether it is a fault."""
    for who in state.writers:
        yield from produce(state, who, setup)
    yield from stale_restore(state, setup)
    if setup.heirs:
        yield from succeed(state, setup)
    yield from _takeover(state, setup)
    if setup.aborter:
        yield from _abort(state, setup)
    if setup.deleter:
        yield from _delete(state, setup)
    if setup.viewer:
        yield from _view(state, setup)
    yield from _faults(state, setup)


def _takeover(state: State, setup: Setup) -> Steps:
    if state.claiming is not None:
        _, redis = store.xadd(state.redis, state.claiming)
        done = wrote(state, redis)._replace(claiming=None)
        yield "T appends its final event", done, False
    meta = live(state.redis, state.now)
    if meta is None:
        return
    epoch = mint(state, setup.rules)
    flag, redis = store.claim(state.redis, epoch, state.lapsed(), state.now, setup.rules)
    if flag == "OK" and not redis.log:
        yield "T buries what has no log", state._replace(redis=redis, claimed=state.now), False
    elif flag == "OK" and redis.log and state.claiming is None:
        done = wrote(state, redis)._replace(claimed=state.now)
        if not setup.rules.atomic_claim:
            marker = redis.log[-1]
            final = Entry(epoch, marker.first, marker.first, marker.k + 1, "error")
            done = done._replace(claiming=final)
        yield f"T claims under {epoch}", done, False


def _abort(state: State, setup: Setup) -> Steps:
    rules = setup.rules
    if state.aborting >= 2 or (state.aborting and not rules.abort_asked_again):
        return
    epoch = mint(state, rules)
    flag, redis = store.abort(state.redis, epoch, state.now, rules)
    first, label = not state.aborting, f"A aborts: {flag}"
    meta = live(redis, state.now)
    if flag == "OK":
        yield f"{label} under {epoch}", wrote(state, redis)._replace(aborting=1), first
    elif flag == "DELETED" or first:
        yield label, state._replace(aborting=3 if flag != "GONE" else 0), first
    elif flag == "GONE" and not rules.abort_survives_gone:
        yield label, state._replace(aborting=2), False
    elif meta is not None and flag == "CLOSED":
        lapsed = meta.lease < state.now and not rules.abort_until_confirmed
        if meta.report or lapsed:
            yield label, state._replace(aborting=2), False


def _delete(state: State, setup: Setup) -> Steps:
    rules, meta = setup.rules, state.redis.meta
    if state.deleting and (not rules.wipe_asked_again or (meta is not None and meta.gone)):
        return
    if state.deleting and not rules.tombstone and meta is None:
        return
    flag, redis = store.wipe(state.redis, state.now, rules)
    done = state._replace(redis=redis, deleting=1, wiped=True)
    yield f"D deletes: {flag}", done, not state.deleting


def _view(state: State, setup: Setup) -> Steps:
    log, seen = state.redis.log, state.seen
    if log is None:
        return
    rows = tuple(e for e in log if not seen or e.id >= seen[-1].id)
    if seen and (not rows or rows[0].id != seen[-1].id):
        yield "V is reset", _reset(state, setup), False
        return
    grown = seen
    for entry in rows[1:] if seen else rows:
        head = grown[-1].last if grown else 0
        if entry.first > head + 1:
            break
        if entry.first <= head or closed(grown) or entry.k != len(grown) + 1:
            yield "V is reset", _reset(state, setup), False
            return
        grown = (*grown, entry)
    yield "V reads", state._replace(seen=grown), False


def _reset(state: State, setup: Setup) -> State:
    wrong = "" if setup.rollbacks or setup.takeover == "restart" else "a reset, though Redis lost nothing"
    return state._replace(seen=prefix(state.redis.log), wrong=wrong)


def _faults(state: State, setup: Setup) -> Steps:
    if state.rollbacks:
        yield from _rollbacks(state, setup)
        yield "the replica catches up", state._replace(replica=state.redis), True
    if state.ticks:
        yield "a lease's time", state._replace(now=state.now + 1, ticks=state.ticks - 1), True
    for who in state.writers if state.crashes else ():
        if who.alive:
            dead = change(state, who, status="dead", plan="", low=False)
            yield f"{who.name} dies", dead._replace(crashes=state.crashes - 1), True


def _rollbacks(state: State, setup: Setup) -> Steps:
    targets = {"rolls back": state.replica}
    if setup.empties:
        targets["loses all"] = Redis()
    for name, target in targets.items():
        replica = state.replica if setup.resurrects else target
        rest = state._replace(redis=target, replica=replica, rollbacks=state.rollbacks - 1, wiped=False)
        if setup.connections_survive:
            yield _fault(f"Redis {name}", rest)
        dropped = tuple(each._replace(checked=False) for each in rest.writers)
        yield _fault(f"Redis {name}, connections drop", rest._replace(writers=dropped))


def _fault(label: str, state: State) -> Step:
    return label, state, True
