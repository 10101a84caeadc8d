"""OpenAI's Responses, for their clients as they are: a response is a session, its id the session's."""

from dataclasses import replace

import orjson
from aiohttp import web

from server.errors import InvalidRequest, NotFound
from server.events import Cursor, decode_final
from server.session.seat import Seat
from server.session.state import Action
from server.transport import bodies, parts
from server.transport.api import answer, routes, switched
from server.transport.context import CONTEXT
from server.transport.openai import begin, ids, in_openais_words, kept
from server.transport.parts import Answer
from server.wire.openai_errors import Refused, of_final, refuse
from server.wire.openai_input import chat_body, echo, flag_in
from server.wire.openai_responses import PREFIX, Responses


@routes.post("/v1/responses")
@in_openais_words
async def create_response(request: web.Request) -> web.StreamResponse:
    """Start a response; stream it, wait for it, or leave it running in the background."""
    body = await bodies.json_body(request)
    streams, behind = flag_in(body, "stream"), flag_in(body, "background")
    start = bodies.start_of(chat_body(body), request.app[CONTEXT].node.models.default)
    options = kept(request, start.options, lasts=behind)
    start = replace(start, options=options, digest=bodies.digest_of(body))
    seat, new = await begin(request, start, echo(body), "responses")
    dialect = _dialect(request, seat)
    if streams:
        reply = Answer(dialect, ids(seat), 0, refuse=None if behind else refuse, stays=new)
        return await parts.stream(request, seat, reply)
    if not behind:
        log = await parts.whole(request, seat)
        failure = of_final(decode_final(log.lines[-1]))
        if failure is not None and log.head == 1:
            raise Refused(failure)
    return await _object(seat, dialect)


@routes.get("/v1/responses/{id}", allow_head=False)
@in_openais_words
async def get_response(request: web.Request) -> web.StreamResponse:
    """Return the response as it stands; with `?stream=true`, go on after event `starting_after`."""
    seat = await _seat(request)
    dialect, streams = _dialect(request, seat), switched(request, "stream")
    reply = Answer(dialect, ids(seat), _held(request))
    return await (parts.stream(request, seat, reply) if streams else _object(seat, dialect))


@routes.post("/v1/responses/{id}/cancel")
@in_openais_words
async def cancel_response(request: web.Request) -> web.StreamResponse:
    """Abort the response, wherever it runs; one that has ended stays as it is."""
    answer_ = await request.app[CONTEXT].node.control(_sid(request), Action.ABORT)
    seat = await _seat(request, Cursor.parse(answer_["id"]))
    return await _object(seat, _dialect(request, seat))


@routes.delete("/v1/responses/{id}")
@in_openais_words
async def delete_response(request: web.Request) -> web.StreamResponse:
    """Abort the response if it runs, and forget it."""
    await request.app[CONTEXT].node.delete(_sid(request))
    return answer({"id": request.match_info["id"], "object": "response", "deleted": True})


def _sid(request: web.Request) -> str:
    id = request.match_info["id"]
    if not (id.startswith(PREFIX) and bodies.valid_sid(id.removeprefix(PREFIX))):
        raise NotFound("There is no such response.")
    return id.removeprefix(PREFIX)


async def _seat(request: web.Request, after: Cursor | None = None) -> Seat:
    return await request.app[CONTEXT].node.seat(_sid(request), after)


def _dialect(request: web.Request, seat: Seat) -> Responses:
    spec = request.app[CONTEXT].node.spec(seat)
    return Responses(seat.tail.sid, spec.model, spec.created // 1000, orjson.dumps(spec.echo or {}))


async def _object(seat: Seat, dialect: Responses) -> web.Response:
    """Return the response object, as far as the gate lets it be read."""
    encoding = await parts.folded(seat.tail, dialect)
    return answer(dialect.response(encoding.state), headers=ids(seat))


def _held(request: web.Request) -> int:
    """Return how many events the client has: all up to `starting_after`."""
    text = request.query.get("starting_after")
    if text is None:
        return 0
    number = bodies.number(text, 15)
    if number is None:
        raise InvalidRequest("`starting_after` must be a sequence number.")
    return number + 1
