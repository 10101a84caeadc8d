"""A fake OpenAI-compatible upstream whose every token carries its send time.

`POST /v1/chat/completions` streams chunks of the usual shape. What to send is read from the text
of the request's body, so that it passes through any relay as a prompt: `rate=50 count=100` for
100 tokens at 50 a second (`rate=0`: as fast as the socket takes them), and `gate=NAME` to wait,
after the headers, for `POST /release` with that name. All streams share one wheel of 1 ms ticks,
and each has its own phase. The upstream is an open loop: a reader that is slow finds the tokens
stamped with the time they were due to leave, not the time it made room for them.

    python -m bench.upstream --port 9000
"""

import argparse
import json
import re
import resource
import select
import socket
import time
from collections import defaultdict
from collections.abc import Callable

from bench.tokens import TOKEN
from bench.wheel import TICK_NS, Wheel

BLOCK = 100
BACKLOG_LIMIT = 4 << 20
GOLDEN = 0.618034

_WORK = re.compile(rb"rate=(\d+) count=(\d+)(?: gate=(\w+))?")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHUNK = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"bench","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":%b,'
    b'"logprobs":null,"finish_reason":%b}]}\n\n'
)
_ROLE = _CHUNK % (b'{"role":"assistant","content":""}', b"null")
_BEFORE, _AFTER = (_CHUNK % (b'{"content":"@"}', b"null")).split(b"@")
_STOP = _CHUNK % (b"{}", b'"stop"') + b"data: [DONE]\n\n"
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def _token(seq: int) -> bytes:
    return _chunked(_BEFORE + TOKEN % (seq, time.monotonic_ns()) + _AFTER)


class Client:
    """One connection of a relay; at most one stream at a time runs on it."""

    __slots__ = ("backlog", "buffer", "burst", "count", "due", "period", "seq", "sock", "streaming")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.backlog = b""
        self.streaming = False
        self.seq = self.count = self.burst = 0
        self.due = self.period = 0.0

    def begin(self, rate: int, count: int) -> None:
        """Take on a stream of `count` tokens at `rate` a second."""
        self.seq, self.count, self.streaming = 0, count, True
        self.period = max(1.0, 1000 / rate) if rate else 0.0
        self.burst = max(1, rate // 1000) if rate else BLOCK

    def next_tokens(self) -> bytes:
        """Make the bytes that are due now, with the end mark if they are the last."""
        last = min(self.seq + self.burst, self.count)
        tokens = b"".join([_token(seq) for seq in range(self.seq + 1, last + 1)])
        self.seq = last
        if last < self.count:
            return tokens
        self.streaming = False
        return tokens + _chunked(_STOP) + b"0\r\n\r\n"


class Upstream:
    """The server: one epoll loop, one wheel."""

    def __init__(self, host: str, port: int) -> None:
        self.epoll = select.epoll()
        self.listener = socket.create_server((host, port), backlog=4096)
        self.listener.setblocking(False)
        self.epoll.register(self.listener, select.EPOLLIN)
        self.clients: dict[int, Client] = {}
        self.gates: defaultdict[str, list[Client]] = defaultdict(list)
        self.wheel: Wheel[Client] = Wheel()
        self.opened = self.stalls = 0
        self.routes: dict[str, Callable[[Client, bytes], None]] = {
            "POST /v1/chat/completions": self._start,
            "POST /release": self._release,
            "GET /stats": self._stats,
            "GET /v1/models": self._models,
        }

    def serve(self) -> None:
        """Run until killed."""
        while True:
            for fd, event in self.epoll.poll(self.wheel.wait(time.monotonic_ns())):
                if fd == self.listener.fileno():
                    self._accept()
                elif client := self.clients.get(fd):
                    self._ready(client, event)
            for client in self.wheel.due(time.monotonic_ns()):
                if client.streaming:
                    self._emit(client)

    def _emit(self, client: Client) -> None:
        if len(client.backlog) > BACKLOG_LIMIT:
            self.stalls += 1
        else:
            self._send(client, client.next_tokens())
        if client.streaming and client.period:
            client.due += client.period
            self.wheel.put(client.due, client)

    def _send(self, client: Client, data: bytes) -> None:
        if client.backlog:
            client.backlog += data
            return
        try:
            sent = client.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        if sent < len(data) or (client.streaming and not client.period):
            client.backlog = data[sent:]
            self.epoll.modify(client.sock, select.EPOLLIN | select.EPOLLOUT)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.clients[sock.fileno()] = Client(sock)
            self.epoll.register(sock, select.EPOLLIN)

    def _drop(self, client: Client) -> None:
        if client.sock.fileno() >= 0:
            del self.clients[client.sock.fileno()]
            client.sock.close()
            client.streaming = False

    def _ready(self, client: Client, event: int) -> None:
        if event & select.EPOLLOUT:
            self._flush(client)
        if event & ~select.EPOLLOUT:
            self._read(client)

    def _flush(self, client: Client) -> None:
        data, client.backlog = client.backlog, b""
        if data:
            self._send(client, data)
        if not client.backlog and client.streaming and not client.period:
            self._emit(client)
        elif not client.backlog and client.sock.fileno() >= 0:
            self.epoll.modify(client.sock, select.EPOLLIN)

    def _read(self, client: Client) -> None:
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.buffer += data
        head, found, body = client.buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if found and len(body) >= size:
            client.buffer = body[size:]
            route = self.routes.get(" ".join(head.decode("latin-1").split(" ", 2)[:2]))
            (route or self._missing)(client, body[:size])

    def _start(self, client: Client, body: bytes) -> None:
        work = _WORK.search(body)
        if not work:
            self._reply(client, {"error": {"message": "no rate= count= in the body"}}, "400 Bad")
            return
        self.opened += 1
        client.begin(int(work[1]), int(work[2]))
        client.due = time.monotonic_ns() / TICK_NS
        client.due += client.period * (self.opened * GOLDEN % 1) - client.period
        self._write(client, _HEAD + _chunked(_ROLE))
        if work[3]:
            self.gates[work[3].decode()].append(client)
        else:
            self._emit(client)

    def _release(self, client: Client, body: bytes) -> None:
        now = time.monotonic_ns() / TICK_NS
        for held in self.gates.pop(body.decode(), ()):
            held.due = now
            self._emit(held)
        self._reply(client, {})

    def _stats(self, client: Client, _: bytes) -> None:
        streaming = sum(one.streaming for one in self.clients.values())
        late, self.wheel.late_ns = self.wheel.late_ns / 1e6, 0
        self._reply(
            client,
            {"streams": streaming, "stalls": self.stalls, "late_ms": late},
        )

    def _models(self, client: Client, _: bytes) -> None:
        self._reply(client, {"object": "list", "data": [{"id": "bench", "object": "model"}]})

    def _missing(self, client: Client, _: bytes) -> None:
        self._reply(client, {"error": {"message": "no such route"}}, "404 Not Found")

    def _reply(self, client: Client, answer: dict[str, object], status: str = "200 OK") -> None:
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._write(client, head.encode() + b"\r\n\r\n" + body)

    def _write(self, client: Client, data: bytes) -> None:
        try:
            client.sock.send(data)
        except OSError:
            self._drop(client)


def main() -> None:
    """Serve on a loopback port."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    Upstream("127.0.0.1", parser.parse_args().port).serve()


if __name__ == "__main__":
    main()
