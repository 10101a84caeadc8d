"""What the head of an answer says."""

import time
from email.utils import formatdate

import pytest

from server.events import LONGEST
from server.upstream.http_answers import retry_after

HOUR = 3600
WAITS = [
    ({"Retry-After": "7"}, 7.0),
    ({"Retry-After": "0.5"}, 0.5),
    ({"Retry-After-Ms": "250", "Retry-After": "7"}, 0.25),
    ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ({"Retry-After": "1e307"}, LONGEST),
    ({"Retry-After-Ms": "1e307"}, LONGEST),
    ({"Retry-After": "Wed, 21 Oct 9998 07:28:00 GMT"}, LONGEST),
    ({"Retry-After": f"Wed, 21 Oct 2065 {1 << 70}:28:00 GMT"}, None),
    *(({"Retry-After": bad}, None) for bad in ("", "-1", "nan", "inf", "soon", "1e999")),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS)
def test_how_long_to_wait_is_read_in_every_form(headers, seconds):
    assert retry_after(headers) == seconds


def test_a_date_to_come_is_waited_for():
    moment = formatdate(time.time() + HOUR, usegmt=True)
    assert HOUR - 5 < retry_after({"Retry-After": moment}) <= HOUR
