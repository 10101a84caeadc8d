"""What clients send: bodies, cursors and headers, read strictly."""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from aiohttp import web

from server.errors import BadCursor, BadJson, InvalidRequest, NotFound, TooLarge
from server.events import Cursor, tellable
from server.session.state import Options
from server.trail import SESSION
from server.upstream import Head, Request

_SID = re.compile(r"[A-Za-z0-9_-]{22,64}", re.ASCII)
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
BODY_TIMEOUT = 30.0
PUSH = "push"


@dataclass(frozen=True, slots=True)
class Start:
    """A request to start a session; `digest` names the body, for idempotency."""

    request: Request
    options: Options
    digest: str


def valid_sid(text: Any) -> bool:
    """Say whether this can be a session's id at all."""
    return isinstance(text, str) and _SID.fullmatch(text) is not None


def sid_in(given: Mapping[str, Any], name: str) -> str:
    """Return the session id that has that name; what cannot be one is an unknown session."""
    sid = given.get(name)
    if not valid_sid(sid):
        raise NotFound()
    SESSION.set(str(sid))
    return str(sid)


def number(text: str, digits: int) -> int | None:
    """Read a number of at most so many digits; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None


def merged_in(given: Mapping[str, Any]) -> bool:
    """Say whether `delivery` asks for merged events."""
    delivery = given.get("delivery", "each")
    if delivery not in ("each", "merged"):
        raise InvalidRequest("`delivery` is one of each, merged.")
    return bool(delivery == "merged")


def cursor_of(text: str | None) -> Cursor | None:
    """Read a cursor; None or an empty one means from the start, anything else raises `BadCursor`."""
    return Cursor.parse(text) if text else None


def cursor_from(request: web.Request) -> Cursor | None:
    """Read `Last-Event-ID`, else `?after=`; the header wins."""
    return cursor_of(_place_in(request))


def _place_in(request: web.Request) -> str:
    header = request.headers.get("Last-Event-ID")
    return header if header is not None else request.query.get("after", "")


def qualified_cursor(request: web.Request) -> tuple[str, Cursor] | None:
    """Read `<sid>.<epoch>-<seq>`, the event id of the one-shot stream; None without the header."""
    header = request.headers.get("Last-Event-ID")
    if not header:
        return None
    sid, _, cursor = header.partition(".")
    if not valid_sid(sid):
        raise BadCursor()
    return sid, Cursor.parse(cursor)


def conversation_cursor(request: web.Request) -> tuple[str | None, Cursor | None]:
    """Read a cursor with the session that it is of, if it says so: None twice for none."""
    sid, dot, cursor = _place_in(request).rpartition(".")
    if dot and not valid_sid(sid):
        raise BadCursor()
    return sid or None, cursor_of(cursor)


async def json_body(request: web.Request) -> dict[str, Any]:
    """Read the body, bounded in size and time; raise `BadJson` or `TooLarge`."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge() from None
    except TimeoutError:
        raise InvalidRequest("The body came too slowly.") from None
    except web.RequestPayloadError:
        raise InvalidRequest("The body is not what its headers say.") from None
    return json_object(raw)


def json_object(raw: bytes | str) -> dict[str, Any]:
    """Read one JSON object; raise `BadJson`, also for what is nested too deeply to be written again."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadJson() from None
    if not isinstance(body, dict):
        raise BadJson()
    if not tellable(body):
        raise BadJson("Expected one JSON object, and one that is not nested so deeply.")
    return body


def digest_of(body: dict[str, Any]) -> str:
    """Return the name of a body, for idempotency."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def mark_of(digest: str, sid: str, secret: bytes) -> str:
    """Return what Redis keeps of a digest: without the secret, nobody can try which body makes it."""
    return hmac.digest(secret, f"{sid}\0{digest}".encode(), "sha256").hex()


def start_of(body: dict[str, Any], default_model: str) -> Start:
    """Read the body of a start; raise `InvalidRequest`."""
    digest = digest_of(body)
    rest = dict(body)
    pushed = _pushed(rest)
    try:
        options = msgspec.convert(rest.pop("session", {}), Options)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"session: {error}") from None
    model = rest.pop("model", None)
    model = default_model if model in (None, "") else model
    if not isinstance(model, str) or not 0 < len(model) <= 200:
        raise InvalidRequest("`model` must be a string, and given: this server has no default.")
    asked = not pushed or "prompt" in rest or "messages" in rest
    messages = _messages(rest) if asked else []
    return Start(Request(model, messages, rest, pushed=pushed), options, digest)


def _pushed(rest: dict[str, Any]) -> bool:
    """Say whether the caller will be the upstream; then no model needs to be named."""
    upstream = rest.pop("upstream", None)
    if upstream not in (None, PUSH):
        raise InvalidRequest(f"`upstream` can only be {PUSH}; else it follows from the model.")
    pushed = upstream == PUSH or rest.get("model") == PUSH
    if pushed:
        rest.setdefault("model", PUSH)
    return pushed


def _messages(rest: dict[str, Any]) -> list[dict[str, Any]]:
    prompt, messages = rest.pop("prompt", None), rest.pop("messages", None)
    if (prompt is None) == (messages is None):
        raise InvalidRequest("Give either `prompt` or `messages`.")
    if messages is None:
        if not isinstance(prompt, str):
            raise InvalidRequest("`prompt` must be a string.")
        return [{"role": "user", "content": prompt}]
    good = isinstance(messages, list) and all(isinstance(m, dict) for m in messages)
    if not good or not messages:
        raise InvalidRequest("`messages` must be a list of objects, and not empty.")
    return list(messages)


def head_of(request: web.Request) -> Head:
    """Read the head of a pushed body; one without a type is text, as `curl -T-` sends it."""
    seq, last = request.headers.get("Producer-Seq"), request.query.get("final")
    place = None if seq is None else number(seq, 15)
    if seq is not None and place is None:
        raise InvalidRequest("`Producer-Seq` is a number.")
    if last not in (None, "done"):
        raise InvalidRequest("`final` can only be done.")
    kind = request.headers.get("Content-Type", "text/plain")
    return Head(kind, place, last is not None)


def new_sid() -> str:
    """Mint an id that nobody can guess: 191 bits."""
    return _named(secrets.token_bytes(24))


def sid_of(key: str, secret: bytes, scope: str = "") -> str:
    """Derive the id that an idempotency key stands for, the same on every node.

    A key means something else in each `scope`: a dialect's, say.
    """
    if not _KEY.fullmatch(key):
        raise InvalidRequest("An Idempotency-Key has 1 to 255 printable characters.")
    # No key holds a NUL, so scopes cannot meet.
    name = f"{scope}\0{key}" if scope else key
    mac = hmac.digest(secret, name.encode(), "sha256")
    return _named(mac[:24])


def _named(data: bytes) -> str:
    # At a command line a leading hyphen would make an option of it.
    return base64.urlsafe_b64encode(bytes((data[0] & 0x7F, *data[1:]))).decode()


def viewer_scope(message: dict[str, Any]) -> bool:
    """Say whether a pause or resume is about this socket's cursor alone."""
    scope = message.get("scope", "session")
    if scope not in ("session", "viewer"):
        raise InvalidRequest("`scope` is one of session, viewer.")
    return bool(scope == "viewer")
