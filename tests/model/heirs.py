"""What heirs do: read what there is to go on from, and inherit it."""

from tests.model import redis_model as store
from tests.model.redis_model import closed, live, prefix
from tests.model.session_model import Producer, Setup, State, Steps, change, mint, wrote


def succeed(state: State, setup: Setup) -> Steps:
    """Let whoever finds the lease lapsed become an heir, in two steps: anything may happen between."""
    for heir in state.writers[1:]:
        if heir.status == "reads":
            yield from _inherit(state, heir, setup)
    nobody = [heir for heir in state.writers[1:] if heir.status == "none"]
    there = prefix(state.redis.log)
    if nobody and there and state.lapsed() and not closed(state.redis.log):
        heir, memory = nobody[0], there if setup.takeover == "continue" else ()
        yield f"{heir.name} reads", change(state, heir, status="reads", memory=memory), False


def _inherit(state: State, heir: Producer, setup: Setup) -> Steps:
    behind = heir.memory if setup.takeover == "continue" else None
    epoch, rules = mint(state, setup.rules), setup.rules
    flag, redis = store.inherit(state.redis, epoch, heir.name, behind, state.lapsed(), state.now, rules)
    if flag != "OK":
        yield f"{heir.name} inherits: {flag}", change(state, heir, status="none", memory=()), False
        return
    log, meta = redis.log, live(redis, state.now)
    assert log
    assert meta
    taken = state if redis == state.redis else wrote(state, redis)._replace(claimed=state.now)
    known = log[:-1] if rules.inherit_mints else log
    wrong = "" if known == heir.memory else "an heir goes on from another log"
    runs = {"status": "run", "memory": log, "acked": len(log), "base": log, "checked": True}
    done = change(taken, heir, **runs, renewed=state.now)
    yield f"{heir.name} inherits under {meta.epoch}", done._replace(wrong=wrong), False
    if state.losses:
        yield f"{heir.name} inherits, answer lost", taken._replace(losses=state.losses - 1), True
