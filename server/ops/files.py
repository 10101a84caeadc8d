"""The files that a process may have open: connections take most of them, and must not take the last."""

import sys
from contextlib import suppress

if sys.platform != "win32":
    import resource

SHARE = 0.9
"""For connections of clients; the rest is for those to upstreams and to Redis."""


def allow_all() -> None:
    """Let this process have as many files open as it may choose to."""
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # macOS says "no limit", and means another one
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def for_clients() -> int:
    """Return how many connections of clients this process has the files for."""
    if sys.platform != "win32":
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            return int(SHARE * files)
    return sys.maxsize
