"""The fault suite in its two-minute form; `make chaos` is the long one, with the mutants."""

import pytest

from tests.chaos.__main__ import missing
from tests.chaos.faults import FAULTS
from tests.chaos.mutants import EXPECTED, broken
from tests.chaos.run import run

pytestmark = pytest.mark.alone


async def test_random_faults_break_no_rule(tmp_path):
    outcome = await run(tmp_path, seed=7, seconds=60, at_once=8)
    print(outcome.summary())
    assert outcome.verdict.violations == ()
    assert outcome.verdict.silent == ()
    assert len(outcome.faults) > len(FAULTS) // 2


async def test_a_broken_server_is_caught_and_a_run_without_faults_is_not_enough(tmp_path):
    name = "ignore-the-gate"
    outcome = await run(tmp_path, seed=1, seconds=3, faults={}, at_once=4, mutant=name, settle=0)
    assert broken(outcome) & EXPECTED[name]
    assert missing([outcome], sessions=1, faults=1)[-1] == "0 faults, wanted 1"
