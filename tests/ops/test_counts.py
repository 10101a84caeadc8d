"""What is counted: pure."""

import pytest

from server.counts import Histogram, known_code


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([], [0, 0, 0]),
        ([0.5], [1, 0, 0]),
        ([1.0], [1, 0, 0]),
        ([1.5, 2.0], [0, 2, 0]),
        ([2.5, 99], [0, 0, 2]),
    ],
)
def test_a_value_falls_into_the_first_bucket_that_reaches_it(values, counts):
    histogram = Histogram(1, 2)
    for value in values:
        histogram.add(value)
    assert (histogram.counts, histogram.total) == (counts, sum(values))


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("upstream_stall", "upstream_stall"),
        ("producer_lost", "producer_lost"),
        ("made up by a client", "other"),
    ],
)
def test_a_code_that_somebody_made_up_is_no_label(code, known):
    assert known_code(code) == known
