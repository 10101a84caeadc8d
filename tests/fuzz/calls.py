"""What a client may send over one connection, mutated: requests, bodies in any framing,
WebSocket frames (pure).

What is made is bytes as they are sent, but for the session and its epoch: `SID` and `EPOCH` stand for
those, so an input means the same on another server.
"""

import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tests.fuzz import clients, seeds
from tests.fuzz.mutate import Mutator

SID = seeds.SID
EPOCH = "1795219200123"
_KEY = f"Authorization: Bearer {clients.KEY}"
_JSON = "Content-Type: application/json"
_UPGRADE = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}==")
_HEADERS = (
    b"Last-Event-ID: " + f"{EPOCH}-3".encode(), b"Last-Event-ID: \xff", b"Idempotency-Key: k",
    b"Cookie: tokenwire=x",
    b"Idempotency-Key: \xff", b"X-Conversation-Id: c", b"X-Conversation-Id: \xff\xfe",
    b"Producer-Seq: 1",
    b"Content-Encoding: gzip", b"Content-Encoding: deflate", b"Content-Encoding: br",
    b"Expect: 100-continue",
    b"Content-Type: text/plain; charset=zlib", b"Content-Type: image/\xff",
    b"Content-Type: multipart/form-data",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", b"Content-Length: -1",
    b"Content-Length: 99999999999",
    b"Origin: http://evil", b"Host: \xff", b"Host: 127.0.0.1:1", b"X-Forwarded-For: 1.2.3.4, \xff",
    b"X-Request-Id: \xff", b"Authorization: Bearer tw_\xff", b"Authorization: Bearer \xff.a.b",
    b"Accept: text/plain",
    b"Accept: text/event-stream", b"Upgrade: websocket", b"Connection: Upgrade", b"Range: bytes=0-",
    b"Sec-WebSocket-Protocol: tokenwire.v1, ticket.\xff",
    b"Sec-WebSocket-Extensions: permessage-deflate", b": x",
    b"Access-Control-Request-Method: PUT", b"traceparent: 00-x", b"Accept-Encoding: gzip",
    b"X: " + b"y" * 9000,
)  # fmt: skip
_TARGET_WORDS = (
    b"%00", b"%ff", b"%0d%0a", b"%2f", b"%", b"?", b"&", b"=", b"#", b"..", b"//", b";", b"?after=",
    b"?stream=sse",
    b"?stream=ndjson", b"?stream=text", b"?delivery=merged", b"?format=openai", b"?format=ai-sdk",
    b"?ticket=x",
    b"?final=done", b"?offset=1", b"?limit=201", b"/events", b"/raw", b"/ws", b"/pause", b"/tickets",
    b"\xff",
)  # fmt: skip
_METHODS = (
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"get",
    b"\xff",
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request and, if it opens a socket, what is said there."""

    method: bytes
    target: bytes
    headers: tuple[bytes, ...] = ()
    body: bytes = b""
    frames: tuple[bytes, ...] = ()


def _call(line: str, *headers: str, body: bytes = b"") -> Call:
    method, target = line.encode().split(b" ")
    return Call(method, target, tuple(h.encode() for h in (_KEY, *headers)), body)


def _socket(target: str, *frames: bytes) -> Call:
    headers = (_KEY, "Connection: Upgrade", *_UPGRADE)
    return Call(b"GET", target.encode(), tuple(map(str.encode, headers)), frames=frames)


_SESSION = f"/v1/sessions/{SID}"
_SAID = seeds.COMMANDS + tuple(
    b'{"type":"%b","ref":7,"session":"%b"}' % (kind, SID.encode())
    for kind in (b"attach", b"pause", b"resume", b"abort", b"detach", b"ping", b"auth")
)
_CHATTED = tuple(
    b'{"type":"%b","requestId":"r",%b' % (kind, chat[1:])
    for kind in (b"send", b"resume", b"abort")
    for chat in seeds.CHATS
)
CALLS: tuple[Call, ...] = (
    *(_call("POST /v1/sessions", _JSON, body=body) for body in seeds.STARTS),
    *(_call(f"POST /v1/sessions?stream={form}", _JSON, body=seeds.STARTS[1]) for form in ("sse",
    "ndjson", "text")),
    _call("GET /v1/stream?prompt=x&model=demo"),
    _call("GET /v1/stream?prompt=x", f"Last-Event-ID: {SID}.{EPOCH}-3"),
    _call("GET /v1/sessions?offset=0&limit=5"),
    *(_call(f"GET {_SESSION}{more}") for more in ("", "/raw", "/events",
    "/events?stream=ndjson&delivery=merged")),
    *(_call(f"GET {_SESSION}/events?{query}") for query in (f"after={EPOCH}-3", "format=openai",
    "format=ai-sdk")),
    _call(f"GET {_SESSION}/events", f"Last-Event-ID: {EPOCH}-3"),
    *(_call(f"POST {_SESSION}/{action}") for action in ("pause", "resume", "abort")),
    _call(f"POST {_SESSION}/tickets", _JSON, body=b'{"rights":["read","control"],"ttl":60}'),
    _call(f"DELETE {_SESSION}"),
    *(_call(f"PUT {_SESSION}/events", f"Content-Type: {kind}", "Producer-Seq: 1", body=body)
      for kind, body in (("application/x-ndjson", seeds.LINES), ("text/event-stream", seeds.CHUNKED[0]),
                         ("text/plain; charset=utf-8", b"text"), ("image/png", b"\x89PNG"))),
    *(_call("POST /v1/chat/completions", _JSON, body=body) for body in seeds.STARTS[:3]),
    _call("GET /v1/models"), _call("GET /v1/models/demo"),
    *(_call("POST /v1/responses", _JSON, body=body) for body in seeds.RESPONSES),
    *(_call(f"{line}") for line in (f"GET /v1/responses/resp_{SID}",
    f"POST /v1/responses/resp_{SID}/cancel",
                                    f"GET /v1/responses/resp_{SID}?stream=true&starting_after=2")),
    *(_call("POST /api/chat", _JSON, body=body) for body in seeds.CHATS),
    _call("GET /api/chat/c/stream"), _call("POST /api/chat/c/stop", _JSON,
    body=b'{"activeStreamId":"x"}'),
    _call("GET /v1/conversations/c"), _call("GET /healthz"), _call("GET /readyz"), _call("GET /"),
    _call("GET /app.js"), _call("OPTIONS /v1/sessions"),
    _socket("/v1/ws", *_SAID), _socket(f"{_SESSION}/ws?after={EPOCH}-3", *_SAID[-7:]),
    _socket("/api/chat/ws", *_CHATTED), _socket("/v1/ws", *seeds.STARTS),
)  # fmt: skip


def frame(payload: bytes, opcode: int = 1, final: bool = True, size: int | None = None) -> bytes:
    """Return a client's frame, masked with zeros: what it says stays readable. `size` is a lie."""
    length = len(payload) if size is None else size
    head = bytes([opcode | 0x80 * final])
    if length < 126:
        return head + bytes([0x80 | length]) + bytes(4) + payload
    if length < 1 << 16:
        return head + b"\xfe" + struct.pack("!H", length) + bytes(4) + payload
    return head + b"\xff" + struct.pack("!Q", length) + bytes(4) + payload


class Caller:
    """Makes inputs by dice."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._bodies = Mutator(dice, (*seeds.BODY_WORDS, *seeds.EVENT_WORDS))
        self._targets = Mutator(dice, _TARGET_WORDS)

    def next(self) -> bytes:
        """Return an input."""
        call = self._dice.choice(CALLS)
        for _ in range(self._dice.choice((0, 1, 1, 1, 2, 3))):
            call = self._changed(call)
        data = self._sent(call)
        if self._dice.random() < 0.1:
            data = self._targets.mutated(data)
        return data[: self._dice.randrange(len(data))] if self._dice.random() < 0.08 else data

    def _changed(self, call: Call) -> Call:
        """Return a call with a mutation in one of its parts."""
        dice = self._dice
        if (call.body or call.frames) and dice.random() < 0.6:
            said = [self._bodies.mutated(f) if dice.random() < 0.5 else f for f in call.frames]
            dice.shuffle(said)
            return replace(
                call, body=self._bodies.mutated(call.body) if call.body else b"", frames=tuple(said)
            )
        way = dice.randrange(4)
        if way == 0:
            return replace(call, method=dice.choice(_METHODS))
        if way == 1:
            return replace(call, target=self._targets.mutated(call.target))
        headers = list(call.headers)
        if way == 2 and headers:
            at = dice.randrange(len(headers))
            headers[at : at + 1] = [] if dice.random() < 0.5 else [self._targets.mutated(headers[at])]
            return replace(call, headers=tuple(headers))
        return replace(call, headers=(*headers, dice.choice(_HEADERS)))

    def _sent(self, call: Call) -> bytes:
        body, framing = self._body(call)
        kept = () if call.frames or self._dice.random() < 0.1 else (b"Connection: close",)
        lines = [
            b"%b %b HTTP/1.1" % (call.method, call.target),
            b"Host: localhost",
            *kept,
            *call.headers,
            *framing,
        ]
        return b"\r\n".join((*lines, b"", body))

    def _body(self, call: Call) -> tuple[bytes, Sequence[bytes]]:
        dice, body = self._dice, call.body
        if call.frames:
            return b"".join(self._frames(call.frames)), ()
        way = dice.random()
        if not body or way < 0.02:
            return body, ()
        if way < 0.25:
            return self._chunked(body), (b"Transfer-Encoding: chunked",)
        lie = dice.choice((-5, 1, 1 << 20)) if way < 0.32 else 0
        return body, (b"Content-Length: %d" % max(0, len(body) + lie),)

    def _chunked(self, body: bytes) -> bytes:
        dice, coded = self._dice, b""
        while body:
            size = dice.randint(1, max(1, len(body)))
            piece, body = body[:size], body[size:]
            told = size if dice.random() < 0.9 else dice.choice((0, size + 1, 1 << 40))
            coded += b"%x%b\r\n%b\r\n" % (told, dice.choice((b"", b"", b";x=y", b"\xff")), piece)
        return coded if dice.random() < 0.1 else coded + b"0\r\n\r\n"

    def _frames(self, said: Iterable[bytes]) -> Iterable[bytes]:
        dice = self._dice
        for payload in said:
            way = dice.random()
            if way < 0.7:
                yield frame(payload)
            elif way < 0.8:
                at = dice.randrange(len(payload) + 1)
                yield frame(payload[:at], final=False) + frame(payload[at:], opcode=0)
            elif way < 0.95:
                yield frame(
                    payload[: dice.choice((125, 2, 9000))],
                    opcode=dice.randrange(16),
                    final=dice.random() < 0.7,
                )
            else:
                yield frame(payload, size=dice.choice((0, len(payload) + 1, 70_000, 1 << 62)))
