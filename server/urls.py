"""URLs and origins that a setting may hold, checked and shown without their passwords (pure)."""

import ipaddress
import re
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

# Userinfo and query values: the places in a URL where passwords are.
_CREDENTIALS = re.compile(r"(?<=://).*(?=@)|(?<==)[^&]+")


def masked(text: str) -> str:
    """Return the text; of a URL, without what may be a password."""
    return _CREDENTIALS.sub("***", text) if "://" in text else text


def _one_of(*schemes: str) -> Callable[[str], str]:
    expected = "expected a URL like " + " or ".join(f"{scheme}://…" for scheme in schemes)

    def check(url: str) -> str:
        # The messages never quote the value, since it may hold a password.
        scheme = url.partition("://")[0] if "://" in url else "no scheme"
        if scheme not in schemes:
            raise ValueError(f"{scheme:.20} is not supported; {expected}")
        with suppress(ValueError):  # urlsplit's own, for a bad port or bracket
            parts = urlsplit(url)
            if parts.path if scheme == "unix" else parts.hostname and parts.port != 0:
                return url
        raise ValueError(expected)

    return check


http = _one_of("http", "https")
_server = _one_of("redis", "rediss", "unix")


def redis(url: str) -> str:
    """Check a URL of Redis; behind sentinels and of a cluster it names several servers."""
    scheme, mark, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if not mark or base not in ("redis", "rediss") or kind not in ("sentinel", "cluster"):
        return _server(url)
    hosts, _, service = rest.partition("?")[0].partition("/")
    for host in hosts.rpartition("@")[2].split(","):
        _server(f"redis://{host}")
    if kind == "sentinel" and not service.partition("/")[0]:
        raise ValueError("expected a URL like redis+sentinel://host:port,host:port/service")
    return url


def origins(given: tuple[str, ...]) -> tuple[str, ...]:
    """Check origins of pages; they are compared in lower case."""
    for origin in given:
        if not re.fullmatch(r"https?://[^/?#@*\s]+", origin):
            raise ValueError(f"expected an origin like https://app.example.com, not {origin!r:.60}")
    return tuple(origin.lower() for origin in given)


def networks(given: tuple[str, ...]) -> tuple[str, ...]:
    """Check addresses and networks."""
    for network in given:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(f"expected an address or network, not {network!r:.60}") from None
    return given
