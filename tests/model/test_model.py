"""The design holds in every reachable state, and each rule is there because without it it does not."""

from dataclasses import replace
from functools import partial

import pytest

from tests.model import gate_model, session_model
from tests.model.actors import steps
from tests.model.gate_model import GateSetup
from tests.model.rules import FIRST_DRAFT, Rules
from tests.model.search import Found, search
from tests.model.session_model import Setup

SETUPS = {
    "redis loses nothing": Setup(created=False, losses=2, crashes=1, ticks=2),
    "an abort, redis loses nothing": Setup(aborter=True, losses=2, crashes=1, ticks=2),
    "one rollback": Setup(rollbacks=1, losses=1, crashes=1, ticks=2),
    "two rollbacks": Setup(rollbacks=2, losses=1, crashes=1, ticks=1, batches=(1, 1)),
    "an abort, one rollback": Setup(rollbacks=1, losses=1, ticks=1, aborter=True, ends=False),
    "an abort races the end": Setup(
        rollbacks=1, losses=1, ticks=2, crashes=1, aborter=True, batches=(2,)
    ),
    "an abort, two rollbacks": Setup(
        rollbacks=2, losses=1, ticks=1, aborter=True, ends=False, batches=(1,)
    ),
    "a delete, two rollbacks": Setup(
        rollbacks=2, losses=1, ticks=2, deleter=True, viewer=False, batches=(2,)
    ),
    "a restore that arrives late": Setup(rollbacks=2, ticks=1, batches=(1,)),
    "a restore that arrives twice": Setup(
        rollbacks=1, losses=2, ticks=1, stale_restore=True, aborter=True, batches=(1,)
    ),
    "a start that redis forgets": Setup(created=False, rollbacks=1, losses=1, ticks=1),
    "no connection survives": Setup(
        rollbacks=2, losses=1, ticks=1, connections_survive=False, viewer=False
    ),
    "an heir goes on, redis loses nothing": Setup(
        takeover="continue", heirs=2, losses=1, crashes=1, ticks=1, batches=(1, 1)
    ),
    "an heir goes on, one rollback": Setup(
        takeover="continue", heirs=1, rollbacks=1, ticks=1, batches=(1, 1)
    ),
    "an heir goes on, one dies, one rollback": Setup(
        takeover="continue", heirs=2, rollbacks=1, crashes=1, batches=(1,)
    ),
    "an heir goes on, an abort": Setup(
        takeover="continue", heirs=1, rollbacks=1, ticks=1, aborter=True, batches=(1,)
    ),
    "an heir begins anew": Setup(
        takeover="restart", heirs=1, rollbacks=1, losses=1, ticks=1, batches=(1,)
    ),
    "a lost history comes back": Setup(rollbacks=2, losses=1, resurrects=True, batches=(1, 1)),
}

MUTANTS = [
    ("fresh_epochs", "an abort, one rollback", "is aborted and error"),
    ("ordinals", "one rollback", "a hole that nobody heals"),
    ("atomic_claim", "one rollback", "a hole that nobody heals"),
    ("incomplete_is_error", "one rollback", "done, but not whole"),
    ("restore_checks_owner restore_checks_epoch", "an abort, one rollback", "a higher epoch"),
    ("restore_own_lease restore_deadline", "one rollback", "a takeover had ended"),
    ("restore_deadline", "a restore that arrives late", "a takeover had ended"),
    ("restore_deadline", "a delete, two rollbacks", "restored after a delete"),
    ("restore_never_shortens", "a restore that arrives twice", "removed what was in the log"),
    ("tombstone", "a delete, two rollbacks", "restored after a delete"),
    ("wipe_always_buries", "a delete, two rollbacks", "restored after a delete"),
    ("wipe_asked_again", "a delete, two rollbacks", "deleted, but there"),
    ("abort_asked_again", "an abort, one rollback", "a log that nobody ends"),
    ("abort_survives_gone", "an abort, one rollback", "a log that nobody ends"),
    ("abort_until_confirmed", "an abort, one rollback", "a log that nobody ends"),
    ("settle_by_content", "redis loses nothing", "delivered, but never in the log"),
    ("absent_asks_renew", "one rollback", "gave up a session that it still owns"),
    ("check_on_connect", "no connection survives", "a hole, though no connection survived"),
    ("inherit_mints", "an heir goes on, one rollback", "delivered, but never in the log"),
    ("inherit_behind", "an heir goes on, redis loses nothing", "goes on from another log"),
    ("heir_extends", "an heir goes on, one rollback", "behind a log that it does not know"),
    ("create_knows_owner", "redis loses nothing", "gave up a session that it has created"),
]

GATE_MUTANTS = [
    (GateSetup(log_before_gate=False), "above the gate"),
    (GateSetup(in_order=False, turns=False), "lifts a gate that nobody lifted"),
    (GateSetup(rollbacks=1, turns=False), "lifts a gate that nobody lifted"),
]


def explore(setup: Setup) -> Found:
    return search(
        session_model.start(setup),
        partial(steps, setup=setup),
        partial(session_model.invariant, setup=setup),
        partial(session_model.quiescent, setup=setup),
    )


def explore_gate(setup: GateSetup) -> Found:
    return search(
        gate_model.gate_start(setup),
        partial(gate_model.gate_steps, setup=setup),
        gate_model.gate_wrong,
        gate_model.gate_quiescent,
    )


@pytest.mark.parametrize("name", SETUPS)
def test_the_design_keeps_its_promises_in_every_state(name: str) -> None:
    found = explore(SETUPS[name])
    print(f"{name}: {found.states} states")
    assert (found.wrong, found.trace) == ("", ())


@pytest.mark.parametrize(("broken", "name", "wrong"), MUTANTS)
def test_each_rule_is_needed(broken: str, name: str, wrong: str) -> None:
    rules = replace(Rules(), **dict.fromkeys(broken.split(), False))
    found = explore(SETUPS[name]._replace(rules=rules))
    print(f"without {broken}: {found.wrong}", *found.trace, sep="\n    ")
    assert wrong in found.wrong


def test_the_first_draft_of_the_design_is_refuted() -> None:
    """The rules that the search added are those that the draft lacked."""
    found = explore(SETUPS["redis loses nothing"]._replace(rules=FIRST_DRAFT))
    assert found.wrong == "gave up a session that it has created"


@pytest.mark.parametrize(
    "setup",
    [GateSetup(pauses=3), GateSetup(in_order=False), GateSetup(events=2, rollbacks=1)],
)
def test_nothing_above_a_shut_gate_is_delivered(setup: GateSetup) -> None:
    found = explore_gate(setup)
    print(f"{setup}: {found.states} states")
    assert (found.wrong, found.trace) == ("", ())


@pytest.mark.parametrize(("setup", "wrong"), GATE_MUTANTS)
def test_each_rule_of_the_gate_is_needed(setup: GateSetup, wrong: str) -> None:
    assert wrong in explore_gate(setup).wrong
