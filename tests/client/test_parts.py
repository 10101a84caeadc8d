"""The client's small parts: waits, and errors told by a status or a close code."""

import random

import pytest

from server import errors
from server.client.answers import error_of_close, error_of_status, is_passing
from server.client.backoff import LEAST, MOST, Backoff
from server.client.reports import Hangup


def test_a_wait_is_anything_up_to_a_limit_that_doubles():
    backoff, limits = Backoff(random.Random(1)), [min(MOST, LEAST * 2**n) for n in range(12)]
    rounds = []
    for _ in range(400):
        rounds.append([backoff.next() for _ in limits])
        backoff.reset()
    for place, limit in enumerate(limits):
        waits = [waits[place] for waits in rounds]
        assert 0 <= min(waits) < limit * 0.1
        assert limit * 0.9 < max(waits) <= limit


def test_a_wait_is_never_less_than_asked_for():
    backoff = Backoff(random.Random(1))
    assert min(backoff.next(3.0) for _ in range(100)) >= 3.0


@pytest.mark.parametrize(
    ("status", "kind", "passing"),
    [
        (400, errors.InvalidRequest, False),
        (401, errors.Unauthorized, False),
        (403, errors.Forbidden, False),
        (404, errors.UnknownModel, False),
        (410, errors.Gone, False),
        (418, errors.TokenwireError, False),
        (429, errors.RateLimited, True),
        (502, Hangup, True),
        (503, errors.StoreUnavailable, True),
        (504, Hangup, True),
    ],
)
def test_a_status_is_an_error(status, kind, passing):
    error = error_of_status(status)
    assert type(error) is kind
    assert is_passing(error) is passing


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, None) for code in (None, 1000, 1006, 1012, 4408, 4429, 4999)),
        (4401, errors.Unauthorized),
        (4404, errors.NotFound),
        (4410, errors.Gone),
    ],
)
def test_a_close_code_says_whether_to_come_back(code, kind):
    error = error_of_close(code)
    assert (type(error) if error else None) is kind
