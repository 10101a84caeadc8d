"""The fault suite in its two-minute form; `make chaos` is the long one, with the mutants."""

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.run import run

pytestmark = pytest.mark.alone


async def test_random_faults_break_no_rule(tmp_path):
    outcome = await run(tmp_path, seed=7, seconds=60, at_once=8)
    print(outcome.summary())
    assert outcome.verdict.violations == ()
    assert outcome.verdict.silent == ()
    assert len(outcome.faults) > len(FAULTS) // 2
