"""What the producer can do next: one upstream into one log, healed from its memory."""

from tests.model import redis_model as store
from tests.model.redis_model import Entry, Log, Redis, closed, live, prefix
from tests.model.session_model import Producer, Setup, State, Steps, change, mint


def produce(state: State, producer: Producer, setup: Setup) -> Steps:
    """One producer's next steps; not being scheduled is being frozen."""
    name = producer.name
    if producer.status == "new":
        yield from _create(state, producer, setup)
    if not producer.alive:
        return
    if producer.plan in ("regain", "restore"):
        yield from _restore(state, producer, setup)
    elif producer.plan == "adopt":
        yield f"{name} adopts", _adopt(state, producer), False
    else:
        yield f"{name} renews", _renew(state, producer, setup), False
        if producer.low:
            yield f"{name} reads back", _settle(state, producer, setup), False
        elif producer.status == "run":
            yield from _append(state, producer, setup)


def _create(state: State, producer: Producer, setup: Setup) -> Steps:
    flag, redis = store.create(state.redis, mint(state, setup.rules), state.now, setup.rules)
    done = state._replace(redis=redis, next_epoch=state.next_epoch + 1)
    meta = live(redis, state.now)
    if flag == "OK" and meta is not None:
        marker = Entry(meta.epoch, 1, 0, 1)
        runs = {"status": "run", "memory": (marker,), "acked": 1, "renewed": state.now}
        yield "P creates", change(done, producer, **runs), False
    else:
        mine = meta is not None and meta.owner == "P"
        wrong = "gave up a session that it has created" if mine else ""
        out = change(state, producer, status="out")
        yield f"P creates: {flag}", out._replace(wrong=wrong), False
    if state.losses:
        yield "P creates, answer lost", done._replace(losses=state.losses - 1), True


def _next(producer: Producer, setup: Setup) -> Entry | None:
    """Return the entry to send: the one not yet acknowledged, or the upstream's next batch."""
    memory = producer.memory
    if producer.acked < len(memory):
        return memory[producer.acked]
    head, k, epoch = memory[-1].last, len(memory), memory[-1].epoch
    if producer.heir:
        # All that is left at once, then the end.
        if head < sum(setup.batches):
            return Entry(epoch, head + 1, sum(setup.batches), k + 1, by=producer.name)
    elif k <= len(setup.batches):
        return Entry(epoch, head + 1, head + setup.batches[k - 1], k + 1, by="P")
    return Entry(epoch, head + 1, head + 1, k + 1, "done", producer.name) if setup.ends else None


def _append(state: State, producer: Producer, setup: Setup) -> Steps:
    name, entry = producer.name, _next(producer, setup)
    if entry is None or (setup.rules.check_on_connect and not producer.checked):
        return
    known = producer.memory[: producer.acked]
    if producer.heir and setup.rules.heir_extends:
        flag, redis = store.extend(state.redis, entry, known, name)
    else:
        flag, redis = store.xadd(state.redis, entry)
    sent = change(state, producer, memory=(*known, entry))
    if flag == "ok" or (flag == "low" and not setup.rules.settle_by_content):
        yield f"{name} appends {entry.id}: {flag}", _acked(sent._replace(redis=redis), producer), False
    elif flag == "low":
        yield f"{name} appends {entry.id}: low", change(sent, producer, low=True), False
    else:
        yield f"{name} appends {entry.id}: {flag}", change(sent, producer, checked=False), False
    if state.losses:
        lost = change(sent, producer, checked=False)._replace(losses=state.losses - 1)
        yield f"append {entry.id} lost", lost, True
        yield f"{name} appends {entry.id}, answer lost", lost._replace(redis=redis), True


def _acked(state: State, who: Producer) -> State:
    """Count an entry as logged; from here on the producer's own node delivers it."""
    producer = _now(state, who)
    entry = producer.memory[producer.acked]
    status = "closed" if entry.final else "run"
    wrong = "" if entry in (state.redis.log or ()) else "delivered, but never in the log"
    done = change(state, producer, acked=producer.acked + 1, low=False, status=status)
    return done._replace(wrong=wrong)


def _now(state: State, who: Producer) -> Producer:
    return next(each for each in state.writers if each.name == who.name)


def _settle(state: State, producer: Producer, setup: Setup) -> State:
    """Read back the entry that was answered "equal or smaller"."""
    redis = state.redis
    if producer.memory[producer.acked] in (redis.log or ()):
        return _acked(state, producer)
    if setup.rules.absent_asks_renew:
        return change(state, producer, checked=False, low=False)
    meta = live(redis, state.now)
    mine = meta is not None and meta.owner == producer.name
    wrong = "gave up a session that it still owns" if mine else ""
    return change(state, producer, status="out")._replace(wrong=wrong)


def _renew(state: State, producer: Producer, setup: Setup) -> State:
    flag, redis = store.renew(state.redis, state.now, producer.adopted, producer.name)
    if flag == "GONE":
        runs = producer.renewed == state.now or not setup.rules.restore_own_lease
        return change(state, producer, plan="regain") if runs else change(state, producer, status="out")
    if flag != "OK" or redis.meta is None:
        return change(state, producer, status="out")
    renewed = change(state, producer, renewed=state.now, checked=True)._replace(redis=redis)
    if redis.meta.epoch > producer.memory[-1].epoch:
        return change(renewed, producer, plan="adopt")
    if not _expected(producer, redis, setup):
        return change(renewed, producer, plan="restore")
    # An heir's append is refused if it is there already.
    landed = producer.heir and len(redis.log or ()) > producer.acked
    return _acked(renewed, producer) if landed else renewed


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


def _restored(
    state: State, name: str, memory: Log, granted: int, setup: Setup, rows: bool = True
) -> tuple[str, State]:
    flag, redis = store.restore(state.redis, memory, granted, state.now, setup.rules, name, rows)
    wrong = ""
    if flag == "OK" and state.claimed > granted:
        wrong = "restored by a producer whose session a takeover had ended"
    elif flag == "OK" and state.wiped:
        wrong = "restored after a delete"
    elif flag == "OK" and redis.log is not None and state.redis.log:
        wrong = _overwritten(prefix(state.redis.log), redis.log)
    return flag, state._replace(redis=redis, wrong=wrong)


def _overwritten(before: Log, after: Log) -> str:
    if before[-1].epoch > after[-1].epoch:
        return "restored over a higher epoch"
    shorter = before[-1].epoch == after[-1].epoch and after[: len(before)] != before
    return "a restore removed what was in the log" if shorter else ""


def _restore(state: State, producer: Producer, setup: Setup) -> Steps:
    """Write a lost hash, and with it the lease; then the log."""
    rows = producer.plan == "restore"
    flag, done = _restored(state, producer.name, producer.memory, producer.renewed, setup, rows)
    label = f"{producer.plan} of {producer.name} arrives: {flag}"
    if flag == "OK" and not rows:
        yield label, change(done, producer, plan="restore", renewed=state.now), False
    elif flag == "OK":
        whole = {"acked": len(producer.memory), "checked": True, "low": False, "plan": ""}
        status = "closed" if closed(producer.memory) else "run"
        yield label, change(done, producer, **whole, status=status), False
    elif flag == "MOVED":
        yield label, change(done, producer, plan="adopt"), False
    elif flag == "LATE":
        yield label, change(done, producer, plan="", checked=False), False
    else:
        yield label, change(done, producer, plan="", status="out"), False
    if state.losses:
        again = {"plan": "", "checked": False}
        done = change(done, producer, **again)._replace(losses=state.losses - 1)
        yield f"{label}, answer lost", done, True
        if setup.stale_restore and rows and not producer.heir and state.stale is None:
            travels = change(state, producer, **again)._replace(
                stale=(producer.memory, producer.renewed), losses=state.losses - 1
            )
            yield "restore travels on, unanswered", travels, True


def stale_restore(state: State, setup: Setup) -> Steps:
    """Let a restore arrive whose producer has long asked again."""
    if state.stale is not None:
        memory, granted = state.stale
        flag, done = _restored(state, "P", memory, granted, setup)
        yield f"a stale restore arrives: {flag}", done._replace(stale=None), True


def _adopt(state: State, producer: Producer) -> State:
    """Take over the final event under a higher epoch, and drop what the log does not have."""
    log = state.redis.log
    if not closed(log) or not log or log[-1].epoch < producer.memory[-1].epoch:
        return change(state, producer, plan="", checked=False)
    final = log[-1]
    kept = tuple(entry for entry in producer.memory if entry.last < final.first)
    # One that an heir has been at is taken as it is.
    memory = log if state.writers[1:] else (*kept, final)
    wrong = "" if memory == log else "a log that its producer cannot adopt"
    adopted = {"memory": memory, "acked": len(memory), "status": "closed", "adopted": True}
    return change(state, producer, **adopted, plan="", low=False)._replace(wrong=wrong)
