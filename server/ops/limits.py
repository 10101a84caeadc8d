"""What one address may have and ask of one node, and all together; how fast a socket may talk."""

import ipaddress
import sys
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Protocol

from server.errors import COME_BACK, RateLimited

MINUTE = 60.0
KNOWN = 4096
BEYOND = 2
"""Times as many connections as allowed: so many are told so, further ones are just cut off."""
SPARE = 0.05
"""The part of all that may be there above the limit of all, to be told so."""
_UNCOUNTED = nullcontext()


class Transport(Protocol):
    """What is asked of a connection."""

    def get_extra_info(self, name: str) -> object:
        """Return what is known of it."""


def peer_of(transport: Transport) -> str | None:
    """Return the address at the other end, if it has one."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else None


class Addresses:
    """The addresses that clients come from, as far as they are known.

    Who comes through one of the `trusted` proxies is who that says it is, and nobody known if it says
    nothing. Of IPv6 a whole /64 is one address, since one customer has so many.
    An address has `connections` (through a proxy: open requests) and `requests` a minute, all of them
    together have `everybody` connections.
    """

    def __init__(
        self, trusted: Iterable[str], connections: int, requests: int, everybody: int = sys.maxsize
    ) -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]
        self._most = connections
        self._requests = requests
        self._everybody = everybody
        self._counts: Counter[str] = Counter()
        self._open: dict[Hashable, str | None] = {}
        self._over: dict[Hashable, str] = {}
        self._minute = 0
        self._asked: Counter[str] = Counter()
        # The same few addresses come again and again, and each takes 20 µs to look at.
        self._known = lru_cache(KNOWN)(self._look_at)

    def of(self, peer: str | None, forwarded: str | None) -> str | None:
        """Return a client's address: the last one in the chain that is not a trusted proxy's."""
        chain = [part.strip() for part in (forwarded or "").split(",")] if forwarded else []
        for hop in reversed((*chain, peer)):
            name, trusted = self._known(hop or "")
            if not trusted:
                return name
        return None

    def _look_at(self, hop: str) -> tuple[str | None, bool]:
        """Return the name of an address, if it is one, and whether it is a trusted proxy's."""
        try:
            address = ipaddress.ip_address(hop.partition("%")[0])
        except ValueError:
            return None, False
        return _name(address), any(address in network for network in self._trusted)

    def enter(self, connection: Hashable, peer: str | None) -> bool:
        """Count a new connection; return whether it may stay to hear why it may not stay."""
        name = self._open[connection] = self.of(peer, None)
        together, its = len(self._open), 0
        if name is not None:
            self._counts[name] += 1
            its = self._counts[name]
        if its > self._most:
            self._over[connection] = f"{self._most} connections of one address"
        elif together > self._everybody:
            self._over[connection] = f"{self._everybody} connections"
        return its <= BEYOND * self._most and together <= self._everybody * (1 + SPARE)

    def leave(self, connection: Hashable) -> None:
        """Count a connection no more."""
        self._over.pop(connection, None)
        if (name := self._open.pop(connection, None)) is not None:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]

    def is_over(self, connection: Hashable) -> bool:
        """Say whether a connection is one too many."""
        return connection in self._over

    def request(self, connection: Hashable, address: str | None) -> AbstractContextManager[None]:
        """Count a request; raise `RateLimited`, also on entering what is to be held while it is open."""
        if what := self._over.get(connection):
            raise RateLimited(f"There may be {what} at most.", retry_after=COME_BACK)
        if address is None:
            return _UNCOUNTED
        now = time.time()
        if int(now // MINUTE) != self._minute:
            self._minute = int(now // MINUTE)
            self._asked.clear()
        self._asked[address] += 1
        if self._asked[address] > self._requests:
            what = f"{self._requests} requests a minute of one address"
            raise RateLimited(f"There may be {what} at most.", retry_after=MINUTE - now % MINUTE)
        # A proxy's connections are nobody's; of others each is counted already.
        return self._held(address) if self._open.get(connection) is None else _UNCOUNTED

    @contextmanager
    def _held(self, address: str) -> Iterator[None]:
        if self._counts[address] >= self._most:
            what = f"{self._most} open requests of one address"
            raise RateLimited(f"There may be {what} at most.", retry_after=COME_BACK)
        self._counts[address] += 1
        try:
            yield
        finally:
            self._forget(address)


def _name(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Bucket:
    """So many a minute, all of them at once if need be."""

    __slots__ = ("_at", "_left", "_rate", "_size")

    def __init__(self, size: int) -> None:
        self._size = self._left = float(size)
        self._rate = size / MINUTE
        self._at = time.monotonic()

    def take(self) -> None:
        """Take one; raise `RateLimited` if there is none."""
        now = time.monotonic()
        self._left = min(self._size, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            what = f"{self._size:.0f} commands a minute on one socket"
            raise RateLimited(f"There may be {what} at most.", retry_after=(1 - self._left) / self._rate)
        self._left -= 1
