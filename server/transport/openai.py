"""OpenAI's chat completions and models, for their clients as they are."""

from dataclasses import replace
from functools import partial, wraps
from typing import Any

import msgspec
from aiohttp import web

from server.errors import InvalidRequest, TokenwireError, UnknownModel
from server.events import decode, decode_final
from server.session.log import Log
from server.session.seat import Seat
from server.session.state import Options
from server.transport import api, bodies, parts
from server.transport.api import answer, routes
from server.transport.bodies import Start
from server.transport.context import CONTEXT
from server.transport.guard import Handler
from server.transport.parts import Answer
from server.wire.openai_chat import Chat
from server.wire.openai_errors import Failure, Refused, of_error, of_final, refuse
from server.wire.openai_input import flag_in, object_in

TRIES = 8
"""Runs under one idempotency key at most, each after one that was in vain."""


def in_openais_words(handler: Handler) -> Handler:
    """Answer every error of a handler in OpenAI's shape."""

    @wraps(handler)
    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return _refusal(refused.failure)
        except TokenwireError as error:
            return _refusal(of_error(error))

    return answered


def _refusal(failure: Failure) -> web.Response:
    return answer({"error": failure.as_dict()}, failure.status, failure.headers())


async def begin(
    request: web.Request, start: Start, echo: dict[str, Any], scope: str
) -> tuple[Seat, bool]:
    """Start a session, or find the one of this idempotency key; say whether it is new.

    A run that failed in a way that may pass, or that everybody left, is no answer: the next call with
    its key tries again.
    """
    node, key = request.app[CONTEXT].node, request.headers.get("Idempotency-Key") or None
    for attempt in range(TRIES):
        sid, new = await api.started(node, start, key, f"{scope} {attempt}", echo)
        seat = await node.seat(sid, None)
        if new or not _in_vain(seat.tail.log):
            break
    return seat, new


def _in_vain(log: Log) -> bool:
    failure = of_final(decode_final(log.lines[-1])) if log.closed else None
    return failure is not None and failure.retryable


def kept(request: web.Request, options: Options, *, lasts: bool = False) -> Options:
    """Return the options of a run that ends with its connection, unless it `lasts`.

    So does one that belongs to a conversation.
    """
    conversation = request.headers.get("X-Conversation-Id")
    if conversation is not None:
        if not (0 < len(conversation) <= 200 and bodies.is_text(conversation)):
            raise InvalidRequest("X-Conversation-Id has 1 to 200 characters, in UTF-8.")
        return msgspec.structs.replace(options, conversation=conversation)
    if not lasts and options.orphan_ttl is None and options.conversation is None:
        return msgspec.structs.replace(options, orphan_ttl=0.0)
    return options


def ids(seat: Seat) -> dict[str, str]:
    """Return the headers that name a session."""
    return {"X-Session-Id": seat.tail.sid, "X-Request-Id": seat.tail.sid}


@routes.post("/v1/chat/completions")
@in_openais_words
async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a chat, streaming or whole."""
    body = await bodies.json_body(request)
    if body.get("n") not in (None, 1):
        raise InvalidRequest("`n` must be 1: a session is one answer.")
    streams = flag_in(body, "stream")
    echo = {"include_usage": flag_in(object_in(body, "stream_options"), "include_usage")}
    start = bodies.start_of(body, request.app[CONTEXT].node.models.default)
    start = replace(start, options=kept(request, start.options))
    seat, new = await begin(request, start, echo, "chat")
    dialect = _dialect(request, seat)
    if streams:
        reply = Answer(dialect, ids(seat), refuse=refuse, stays=new)
        return await parts.stream(request, seat, reply)
    log = await parts.whole(request, seat)
    if (failure := of_final(decode_final(log.lines[-1]))) is not None:
        raise Refused(failure)
    return answer(dialect.completion(map(decode, log.lines)), headers=ids(seat))


def _dialect(request: web.Request, seat: Seat) -> Chat:
    spec = request.app[CONTEXT].node.spec(seat)
    include_usage = bool((spec.echo or {}).get("include_usage"))
    return Chat(seat.tail.sid, spec.model, spec.created // 1000, include_usage)


def _reply(request: web.Request, seat: Seat) -> Answer:
    return Answer(_dialect(request, seat), ids(seat))


api.FORMATS["openai"] = in_openais_words(partial(parts.go_on, reply=_reply))


@routes.get("/v1/models/{model:.+}")
@in_openais_words
async def one_model(request: web.Request) -> web.StreamResponse:
    """Say whether a model may be asked for."""
    name = request.match_info["model"]
    if name not in await request.app[CONTEXT].node.models.names():
        raise UnknownModel()
    return answer(api.model_object(name))
