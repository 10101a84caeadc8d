"""The call that issues tickets, for clients that can send no header."""

import time
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from server.callers import CALLER, Right
from server.errors import Forbidden, InvalidRequest
from server.ops import tickets
from server.transport import bodies
from server.transport.access import ACCESS
from server.transport.api import answer, location, routes, sid_from
from server.transport.context import CONTEXT


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rights: Annotated[list[Right], msgspec.Meta(min_length=1, max_length=len(tickets.GIVEN))] = (
        msgspec.field(default_factory=lambda: [Right.READ])
    )
    ttl: Annotated[float, msgspec.Meta(ge=1, le=tickets.LIFE)] = 60.0


@routes.post("/v1/sessions/{sid}/tickets")
async def issue_ticket(request: web.Request) -> web.Response:
    """Issue a ticket for a session, with rights that its caller has there."""
    sid, asked = sid_from(request), _asked(await bodies.json_body(request))
    node, caller = request.app[CONTEXT].node, CALLER.get()
    if caller.session is not None:
        raise Forbidden("A credential of one session issues no tickets.")
    owners = [await node.owner(sid, right) for right in asked.rights]
    ticket = tickets.issue(caller, sid, owners[0], asked.rights, asked.ttl, time.time())
    text = tickets.sign(ticket, request.app[ACCESS].secret)
    place, query = location(request, sid), urlencode({"ticket": text})
    urls = {"url": f"{place}/events?{query}", "ws_url": f"{place}/ws?{query}"}
    return answer({"ticket": text, "rights": asked.rights, "by": ticket.by, **urls}, 201)


def _asked(body: dict[str, object]) -> _Asked:
    try:
        asked = msgspec.convert(body, _Asked)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None
    if not tickets.GIVEN.issuperset(asked.rights):
        raise InvalidRequest("A ticket carries read and control only.")
    if len(set(asked.rights)) < len(asked.rights):
        raise InvalidRequest("A ticket carries each right once.")
    return asked
