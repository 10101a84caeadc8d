"""Targets: what clients send, before anything is done about it."""

import base64
import json
import random
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import Any

import jwt
import msgspec
import orjson

from server import urls
from server.callers import Caller, Right
from server.errors import BadCursor, InvalidRequest, TokenwireError, Unauthorized, UpstreamRejected
from server.events import Cursor
from server.ops import keys, tickets
from server.ops.auth import Auth
from server.settings import Settings
from server.transport import bodies, ui_messages
from server.transport.bodies import Start
from server.upstream import Request
from server.upstream.caller import Server
from server.upstream.http import _call
from server.upstream.message_request import body_of
from server.upstream.openai import _body
from server.wire import openai_input
from server.wire.native import text_frame

SECRET = b"s" * 32
KEY = "tw_" + "k" * 43
SID = "s" * 32
LATER = 4_000_000_000
_EVERY = "create+read+control"


def _header(data: bytes) -> str:
    """Return a header's value as the server gets it."""
    return data.decode("utf-8", "surrogateescape")


def cursor(data: bytes) -> None:
    """A cursor in each of its forms."""
    text = _header(data)
    with suppress(BadCursor):
        found = bodies.cursor_of(text)
        assert (found is None) == (not text), "no cursor, or one of nothing"
        assert found is None or str(found) == text, "a cursor that is not what was said"
    asked: Any = SimpleNamespace(headers={"Last-Event-ID": text}, query={"after": text, "final": text})
    for read in (bodies.cursor_from, bodies.qualified_cursor, bodies.conversation_cursor):
        with suppress(BadCursor):
            found_ = read(asked)
            assert isinstance(found_, Cursor | tuple | None), "not a cursor"
    asked.headers = {"Producer-Seq": text, "Content-Type": text}
    with suppress(InvalidRequest):
        bodies.head_of(asked)


def setting(data: bytes) -> None:
    """URLs, origins and networks of the settings: an operator's slip is a `ValueError`."""
    text = data.decode(errors="replace")
    for check in (urls.http, urls.redis):
        with suppress(ValueError):
            check(text)
    for check_all in (urls.origins, urls.networks):
        with suppress(ValueError):
            check_all((text,))
    urls.masked(text)
    with suppress(ValueError):
        keys.parse(text)


def _sent(start: Start) -> None:
    """Check that what was taken can be kept, and be sent to every kind of model server."""
    request = start.request
    assert msgspec.json.decode(msgspec.json.encode(request), type=Request).model == request.model
    for write in (_body, body_of, lambda asked: _call(Server("http://x"), "POST", asked)):
        with suppress(UpstreamRejected):
            write(request)
    assert isinstance(request.prompt, str), "a prompt that is no text"


def start(data: bytes) -> None:
    """The body of a start."""
    with suppress(InvalidRequest):
        _sent(bodies.start_of(bodies.json_object(data), "m"))


def responses(data: bytes) -> None:
    """The body of OpenAI's Responses."""
    with suppress(InvalidRequest):
        body = bodies.json_object(data)
        _sent(bodies.start_of(openai_input.chat_body(body), "m"))
        orjson.dumps(openai_input.echo(body))


def ui_chat(data: bytes) -> None:
    """The body of the AI SDK's transports."""
    with suppress(InvalidRequest):
        chat = bodies.json_object(data)
        _sent(bodies.start_of(ui_messages.chat_body(chat), "m"))
        ui_messages.message_id(chat)


def command(data: bytes) -> None:
    """A frame of a WebSocket: whatever it says, its `ref` can be answered."""
    try:
        message = bodies.json_object(data.decode(errors="replace"))
    except InvalidRequest:
        return
    ref = message.pop("ref", None)
    for read in (
        lambda told: bodies.sid_in(told, "session"),
        bodies.merged_in,
        bodies.viewer_scope,
        lambda told: bodies.cursor_of(told["after"]) if isinstance(told.get("after"), str) else None,
        lambda told: bodies.start_of(told, "m"),
        lambda told: bodies.sid_of(told["idempotency_key"], SECRET) if _named(told) else None,
    ):
        with suppress(TokenwireError):
            read(dict(message))
    text_frame(orjson.dumps({"type": "reply", "ref": ref}))


def _named(message: dict[str, Any]) -> bool:
    return isinstance(message.get("idempotency_key"), str)


@cache
def _auth() -> Auth:
    line = keys.Key("app", frozenset({Right.READ}), keys.hash_of(KEY)).line
    return Auth(Settings(redis="redis://x", keys=(line,), jwt_secret=SECRET.decode()))


def token(**claims: Any) -> bytes:
    """Return a JWT that the target's server takes."""
    return jwt.encode({"sub": "u", "exp": LATER, **claims}, SECRET.decode(), "HS256").encode()


def _forged() -> bytes:
    head, body = (json.dumps(part).encode() for part in ({"alg": "none"}, {"sub": "root", "exp": LATER}))
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, body)) + b"."


CREDENTIALS = (KEY.encode(), token(), token(scope="read control", sid=SID), _forged())


def credential(data: bytes) -> None:
    """API keys and JWTs: none but those that were given."""
    try:
        found = _auth().caller(_header(data))
    except Unauthorized:
        return
    assert found in _callers(), "somebody else's credential was taken"


@cache
def _callers() -> tuple[Caller, ...]:
    return tuple(_auth().caller(text.decode()) for text in CREDENTIALS[:3])


def _ticket(*rights: Right) -> tickets.Ticket:
    minter = Caller("key:app", frozenset(Right))
    made = tickets.issue(minter, SID, "key:app", rights, 60, 1_000_000)
    return msgspec.structs.replace(made, id="i" * 16)


TICKETS = tuple(_ticket(*rights) for rights in ((Right.READ,), (Right.READ, Right.CONTROL)))
SIGNED = tuple(tickets.sign(ticket, SECRET).encode() for ticket in TICKETS)


def ticket(data: bytes) -> None:
    """Tickets: none but those that were signed, whatever is changed of them."""
    dice = random.Random(data)
    changed = bytearray(dice.choice(SIGNED))
    for byte in data[:3]:
        changed[dice.randrange(len(changed))] = byte
    for text in (data, bytes(changed)):
        found = tickets.verify(_header(text), SECRET)
        assert found is None or found in TICKETS, "a ticket that nobody signed"
    assert tickets.verify(_header(data), b"o" * 32) is None, "a ticket under another secret"
