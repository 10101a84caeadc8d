"""The load generator: many viewers on one epoll loop, reading only what they must.

A viewer is a non-blocking socket, the number of the token it expects next, and one way to take
bytes in: `each` checks and times every token; `shared` does the same, remembering what the same
bytes held for another viewer of the session; `count` only counts, for replays of many megabytes;
`ignore` drops all. Delays are read off the tokens themselves (see `bench.tokens`). Only loopback
addresses are accepted, and clients come from eight of them, so that ports do not run out.
"""

import errno
import ipaddress
import select
import socket
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import islice

from bench.delays import Delays
from bench.tokens import find

READ = 65536
SOURCES = tuple(f"127.0.0.{n}" for n in range(2, 10))
BIND_ADDRESS_NO_PORT = 24
PING = 0x89
PONG = b"\x8a\x80\x00\x00\x00\x00"

_find_shared = lru_cache(maxsize=4096)(find)


class Viewer:
    """One client's connection, from its request to the last token."""

    __slots__ = (
        "body",
        "expected",
        "first_ns",
        "framed",
        "gaps",
        "head",
        "last_ns",
        "open",
        "opened_ns",
        "sock",
        "status",
        "tail",
        "take",
    )

    def __init__(self, sock: socket.socket, framed: bool) -> None:
        self.sock = sock
        self.framed = framed
        self.opened_ns = time.monotonic_ns()
        self.first_ns = self.last_ns = 0
        self.expected = 1
        self.gaps = self.status = 0
        self.head: bytes | None = b""
        self.body = self.tail = b""
        self.open = True
        self.take: Callable[[Viewer, bytes, int], None]

    @property
    def seen(self) -> int:
        """How many tokens came, in order."""
        return self.expected - 1


class Load:
    """All viewers of one measurement, and what they saw."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address")
        self.host = host
        self.epoll = select.epoll()
        self.viewers: dict[int, Viewer] = {}
        self.delays = Delays()
        self.tokens = self.gaps = self.answered = self.refused = self.closed = 0
        self.opened = 0

    def open(self, port: int, request: bytes, take: str = "each", framed: bool = False) -> Viewer:
        """Connect and send `request`; the answer is read by `run`."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((SOURCES[self.opened % len(SOURCES)], 0))
        self.opened += 1
        viewer = Viewer(sock, framed)
        viewer.take = partial(_TAKES[take], self)
        viewer.body = request
        error = sock.connect_ex((self.host, port))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, f"connect to {self.host}:{port}")
        self.viewers[sock.fileno()] = viewer
        self.epoll.register(sock, select.EPOLLOUT)
        return viewer

    def open_all(
        self, port: int, requests: Sequence[bytes], window: int = 64, seconds: float = 30, **how
    ) -> list[Viewer]:
        """Open one viewer for each request, at most `window` of them unanswered at a time."""
        viewers: list[Viewer] = []
        answered = self.answered
        waiting = iter(requests)

        def refill() -> bool:
            room = window - (len(viewers) - (self.answered - answered))
            viewers.extend(self.open(port, one, **how) for one in islice(waiting, room))
            return self.answered - answered >= len(requests)

        refill()
        self.run(seconds, refill)
        return viewers

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Read for `seconds`, or until `until` (asked after every batch) says yes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for fd, event in self.epoll.poll(min(left, 0.1)):
                viewer = self.viewers[fd]
                if event == select.EPOLLOUT:
                    self._request(viewer)
                else:
                    self._read(viewer)
            if until and until():
                return True
        return False

    def hang_up(self, viewers: Sequence[Viewer]) -> None:
        """Close these viewers' connections."""
        for viewer in viewers:
            if viewer.open:
                self._forget(viewer)

    def close(self) -> None:
        """Close everything."""
        self.hang_up(list(self.viewers.values()))
        self.epoll.close()

    def restart_clock(self) -> None:
        """Begin a new window of delays and counts; the viewers go on."""
        self.delays = Delays()
        self.tokens = 0

    def _request(self, viewer: Viewer) -> None:
        try:
            viewer.sock.send(viewer.body)
        except OSError:
            self._end(viewer)
            return
        viewer.body = b""
        self.epoll.modify(viewer.sock, select.EPOLLIN)

    def _read(self, viewer: Viewer) -> None:
        try:
            data = viewer.sock.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(viewer)
        elif viewer.head is None:
            viewer.take(viewer, data, time.monotonic_ns())
        else:
            self._read_head(viewer, viewer.head + data)

    def _read_head(self, viewer: Viewer, data: bytes) -> None:
        head, found, body = data.partition(b"\r\n\r\n")
        if not found:
            viewer.head = data
            return
        viewer.head = None
        viewer.status = int(head.split(b" ", 2)[1])
        self.answered += 1
        self.refused += viewer.status >= 300
        if body:
            viewer.take(viewer, body, time.monotonic_ns())

    def _end(self, viewer: Viewer) -> None:
        if viewer.head is not None:
            self.answered += 1
            self.refused += 1
        self.closed += 1
        self._forget(viewer)

    def _forget(self, viewer: Viewer) -> None:
        del self.viewers[viewer.sock.fileno()]
        viewer.open = False
        viewer.sock.close()

    def _take(self, finder: Callable, viewer: Viewer, data: bytes, now: int) -> None:
        if viewer.framed and data[0] == PING:
            viewer.sock.send(PONG)
        found = finder(viewer.tail + data, viewer.expected, viewer.framed)
        viewer.tail = found.tail
        if not found.first:
            return
        if not viewer.first_ns:
            viewer.first_ns = now
        if found.first != viewer.expected or not found.dense:
            viewer.gaps += 1
            self.gaps += 1
        viewer.expected = found.last + 1
        viewer.last_ns = now
        self.tokens += len(found.sent)
        add = self.delays.add
        for sent in found.sent:
            add(now - sent)

    def _take_count(self, viewer: Viewer, data: bytes, now: int) -> None:
        count = data.count(b";")
        viewer.expected += count
        viewer.last_ns = now
        self.tokens += count

    def _take_body(self, viewer: Viewer, data: bytes, now: int) -> None:
        viewer.body += data

    def _take_nothing(self, viewer: Viewer, data: bytes, now: int) -> None:
        pass


def _each(load: Load, viewer: Viewer, data: bytes, now: int) -> None:
    load._take(find, viewer, data, now)


def _shared(load: Load, viewer: Viewer, data: bytes, now: int) -> None:
    load._take(_find_shared, viewer, data, now)


_TAKES: dict[str, Callable[[Load, Viewer, bytes, int], None]] = {
    "each": _each,
    "shared": _shared,
    "count": Load._take_count,
    "body": Load._take_body,
    "ignore": Load._take_nothing,
}
