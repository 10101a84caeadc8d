"""What the head of an upstream's HTTP answer says about it (pure)."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from server.errors import UpstreamFailed, UpstreamRateLimited, UpstreamRejected
from server.events import LONGEST

_OVERLOAD = frozenset({429, 503, 529})


def check_status(status: int, headers: Mapping[str, str]) -> None:
    """Raise the `UpstreamFailed` that a status is; a 2xx passes."""
    if status in _OVERLOAD:
        raise UpstreamRateLimited(upstream_status=status, retry_after=retry_after(headers))
    if status >= 500:
        raise UpstreamFailed(upstream_status=status)
    if status >= 300:
        # A redirect is not followed: where it leads was never allowed.
        raise UpstreamRejected(upstream_status=status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait: `Retry-After-Ms`, or `Retry-After` in seconds or as a date."""
    milliseconds = _number(headers.get("Retry-After-Ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST)
    text = headers.get("Retry-After", "")
    seconds = _number(text)
    seconds = _until(text) if seconds is None else seconds
    return None if seconds is None else min(seconds, LONGEST)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000", which is UTC, too
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
