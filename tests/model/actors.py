"""What each actor can do next: the producer, and the others around the store."""

from tests.model import redis_model as store
from tests.model.redis_model import Entry, Log, Redis, closed, live, prefix
from tests.model.session_model import Producer, Setup, State, Step, Steps, mint, wrote


def steps(state: State, setup: Setup) -> Steps:
    """Yield every step that is possible, and whether it is a fault."""
    yield from produce(state, setup)
    yield from _stale_restore(state, setup)
    yield from _takeover(state, setup)
    if setup.aborter:
        yield from _abort(state, setup)
    if setup.deleter:
        yield from _delete(state, setup)
    if setup.viewer:
        yield from _view(state, setup)
    yield from _faults(state, setup)


def produce(state: State, setup: Setup) -> Steps:
    """The producer's next steps; not being scheduled is being frozen."""
    producer = state.producer
    if producer.status == "new":
        yield from _create(state, setup)
    if not producer.alive:
        return
    if producer.plan == "restore":
        yield from _restore(state, setup)
    elif producer.plan == "adopt":
        yield "P adopts", _adopt(state), False
    else:
        yield "P renews", _renew(state, setup), False
        if producer.low:
            yield "P reads back", _settle(state, setup), False
        elif producer.status == "run":
            yield from _append(state, setup)


def _p(state: State, **changes: object) -> State:
    return state._replace(producer=state.producer._replace(**changes))


def _create(state: State, setup: Setup) -> Steps:
    flag, redis = store.create(state.redis, mint(state, setup.rules), state.now, setup.rules)
    done = state._replace(redis=redis, next_epoch=state.next_epoch + 1)
    meta = live(redis, state.now)
    if flag == "OK" and meta is not None:
        marker = Entry(meta.epoch, 1, 0, 1)
        yield "P creates", _p(done, status="run", memory=(marker,), acked=1, renewed=state.now), False
    else:
        mine = meta is not None and meta.owner == "P"
        wrong = "gave up a session that it has created" if mine else ""
        yield f"P creates: {flag}", _p(state, status="out")._replace(wrong=wrong), False
    if state.losses:
        yield "P creates, answer lost", done._replace(losses=state.losses - 1), True


def _next(producer: Producer, setup: Setup) -> Entry | None:
    """Return the entry to send: the one not yet acknowledged, or the upstream's next batch."""
    memory = producer.memory
    if producer.acked < len(memory):
        return memory[producer.acked]
    head, k, epoch = memory[-1].last, len(memory), memory[-1].epoch
    if k <= len(setup.batches):
        return Entry(epoch, head + 1, head + setup.batches[k - 1], k + 1)
    return Entry(epoch, head + 1, head + 1, k + 1, "done") if setup.ends else None


def _append(state: State, setup: Setup) -> Steps:
    producer = state.producer
    entry = _next(producer, setup)
    if entry is None or (setup.rules.check_on_connect and not producer.checked):
        return
    memory = (*producer.memory[: producer.acked], entry)
    flag, redis = store.xadd(state.redis, entry)
    sent = _p(state, memory=memory)
    if flag == "ok" or (flag == "low" and not setup.rules.settle_by_content):
        yield f"P appends {entry.id}", _acked(sent._replace(redis=redis)), False
    elif flag == "low":
        yield f"P appends {entry.id}: low", _p(sent, low=True), False
    else:
        yield f"P appends {entry.id}: nil", _p(sent, checked=False), False
    if state.losses:
        lost = _p(sent, checked=False)._replace(losses=state.losses - 1)
        yield f"append {entry.id} lost", lost, True
        yield f"P appends {entry.id}, answer lost", lost._replace(redis=redis), True


def _acked(state: State) -> State:
    producer = state.producer
    final = producer.memory[producer.acked].final
    status = "closed" if final else "run"
    return _p(state, acked=producer.acked + 1, low=False, status=status)


def _settle(state: State, setup: Setup) -> State:
    """Read back the entry that was answered "equal or smaller"."""
    producer, redis = state.producer, state.redis
    if producer.memory[producer.acked] in (redis.log or ()):
        return _acked(state)
    if setup.rules.absent_asks_renew:
        return _p(state, checked=False, low=False)
    meta = live(redis, state.now)
    mine = meta is not None and meta.owner == "P"
    wrong = "gave up a session that it still owns" if mine else ""
    return _p(state, status="out")._replace(wrong=wrong)


def _renew(state: State, setup: Setup) -> State:
    producer = state.producer
    flag, redis = store.renew(state.redis, state.now, producer.adopted)
    if flag == "GONE":
        runs = producer.renewed == state.now or not setup.rules.restore_own_lease
        return _p(state, plan="restore") if runs else _p(state, status="out")
    if flag != "OK" or redis.meta is None:
        return _p(state, status="out")
    renewed = _p(state, renewed=state.now, checked=True)._replace(redis=redis)
    if redis.meta.epoch > producer.memory[-1].epoch:
        return _p(renewed, plan="adopt")
    return renewed if _expected(producer, redis, setup) else _p(renewed, plan="restore")


def _expected(producer: Producer, redis: Redis, setup: Setup) -> bool:
    """Say whether the log's last id and length are what was acknowledged, or one entry more."""
    if not redis.log:
        return False
    found = redis.log[-1].id, len(redis.log)
    likely = [
        (entry.id, k)
        for k, entry in enumerate(producer.memory, 1)
        if k in (producer.acked, producer.acked + 1)
    ]
    if setup.rules.ordinals:
        return found in likely
    return found[0] in [id for id, _ in likely]


def _restored(state: State, memory: Log, granted: int, setup: Setup) -> tuple[str, State]:
    flag, redis = store.restore(state.redis, memory, granted, state.now, setup.rules)
    wrong = ""
    if flag == "OK" and state.claimed > granted:
        wrong = "restored by a producer whose session a takeover had ended"
    elif flag == "OK" and state.wiped:
        wrong = "restored after a delete"
    elif flag == "OK" and redis.log is not None and state.redis.log:
        higher = state.redis.log[-1].epoch > memory[-1].epoch
        wrong = "restored over a higher epoch" if higher else ""
    return flag, state._replace(redis=redis, wrong=wrong)


def _restore(state: State, setup: Setup) -> Steps:
    producer = state.producer
    flag, done = _restored(state, producer.memory, producer.renewed, setup)
    label = f"restore arrives: {flag}"
    if flag == "OK":
        whole = {"acked": len(producer.memory), "checked": True, "low": False, "plan": ""}
        status = "closed" if closed(producer.memory) else "run"
        yield label, _p(done, **whole, status=status), False
    elif flag == "MOVED":
        yield label, _p(done, plan="adopt"), False
    elif flag == "LATE":
        yield label, _p(done, plan="", checked=False), False
    else:
        yield label, _p(done, plan="", status="out"), False
    if state.losses:
        again = {"plan": "", "checked": False}
        done = _p(done, **again)._replace(losses=state.losses - 1)
        yield f"{label}, answer lost", done, True
        if setup.stale_restore and state.stale is None:
            travels = _p(state, **again)._replace(
                stale=(producer.memory, producer.renewed), losses=state.losses - 1
            )
            yield "restore travels on, unanswered", travels, True


def _stale_restore(state: State, setup: Setup) -> Steps:
    if state.stale is not None:
        memory, granted = state.stale
        flag, done = _restored(state, memory, granted, setup)
        yield f"a stale restore arrives: {flag}", done._replace(stale=None), True


def _adopt(state: State) -> State:
    """Take over the final event under a higher epoch, and drop what the log does not have."""
    producer, log = state.producer, state.redis.log
    if not closed(log) or not log or log[-1].epoch < producer.memory[-1].epoch:
        return _p(state, plan="", checked=False)
    final = log[-1]
    kept = tuple(entry for entry in producer.memory if entry.last < final.first)
    wrong = "" if (*kept, final) == log else "a log that its producer cannot adopt"
    memory = (*kept, final)
    adopted = {"memory": memory, "acked": len(memory), "status": "closed", "adopted": True}
    return _p(state, **adopted, plan="", low=False)._replace(wrong=wrong)


def _takeover(state: State, setup: Setup) -> Steps:
    if state.claiming is not None:
        _, redis = store.xadd(state.redis, state.claiming)
        done = wrote(state, redis)._replace(claiming=None)
        yield "T appends its final event", done, False
    meta = live(state.redis, state.now)
    if meta is None:
        return
    # A producer that is no more stops renewing, so its lease lapses at the latest after all else.
    lapsed = meta.lease < state.now or not state.producer.alive
    epoch = mint(state, setup.rules)
    flag, redis = store.claim(state.redis, epoch, lapsed, state.now, setup.rules)
    if flag == "OK" and redis.log and state.claiming is None:
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
    wrong = "" if setup.rollbacks else "a reset, though Redis lost nothing"
    return state._replace(seen=prefix(state.redis.log), wrong=wrong)


def _faults(state: State, setup: Setup) -> Steps:
    if state.rollbacks:
        yield from _rollbacks(state, setup)
        yield "the replica catches up", state._replace(replica=state.redis), True
    if state.ticks:
        yield "a lease's time", state._replace(now=state.now + 1, ticks=state.ticks - 1), True
    if state.crashes and state.producer.alive:
        dead = _p(state, status="dead", plan="", low=False)
        yield "P dies", dead._replace(crashes=state.crashes - 1), True


def _rollbacks(state: State, setup: Setup) -> Steps:
    targets = {"rolls back": state.replica}
    if setup.empties:
        targets["loses all"] = Redis()
    for name, target in targets.items():
        replica = state.replica if setup.resurrects else target
        rest = state._replace(
            redis=target, replica=replica, rollbacks=state.rollbacks - 1, wiped=False
        )
        yield _fault(f"Redis {name}", rest)
        yield _fault(f"Redis {name}, connections drop", _p(rest, checked=False))


def _fault(label: str, state: State) -> Step:
    return label, state, True
