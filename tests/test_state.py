"""The table of transitions, and what is derived from it."""

from pathlib import Path

import pytest

from server.session.state import EFFECT, TRANSITIONS, Action, State, Status, diagram

CASES = [(state, action) for state in TRANSITIONS for action in Action]


@pytest.mark.parametrize(("state", "action"), CASES)
def test_every_action_has_a_row_and_leads_to_a_known_state(state, action):
    target = TRANSITIONS[state][action]
    assert target is None or target in TRANSITIONS


@pytest.mark.parametrize(("state", "action"), CASES)
def test_asked_twice_it_answers_twice_the_same(state, action):
    target = TRANSITIONS[state][action]
    if action in EFFECT:
        assert target is not None
        assert TRANSITIONS[target][action] == target


@pytest.mark.parametrize(("state", "action"), CASES)
def test_a_closed_log_never_changes_its_status(state, action):
    target = TRANSITIONS[state][action]
    if state.status is not Status.RUNNING:
        assert target is None or target.status is state.status


def test_aborting_lifts_the_gate():
    assert TRANSITIONS[State(Status.RUNNING, True)][Action.ABORT] == State(Status.ABORTED)


def test_the_design_page_shows_this_table():
    page = (Path(__file__).parent.parent / "docs" / "design.md").read_text()
    assert diagram() in page
