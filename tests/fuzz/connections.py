"""Targets: what an upstream's HTTP server answers."""

import asyncio
import atexit
import math
from functools import cache
from typing import Any

from server.errors import UpstreamFailed
from server.upstream.exchange import Answer, Wire
from server.upstream.http_answers import check_status
from server.wire.openai_errors import of_error
from tests.fuzz.splits import Pieces, same


@cache
def loop() -> asyncio.AbstractEventLoop:
    """Return the loop of what needs one."""
    made = asyncio.new_event_loop()
    atexit.register(made.close)
    return made


class _Transport:
    """A connection's other end: knows whether it was broken off."""

    gone = False

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None:
        self.gone = True

    def is_closing(self) -> bool:
        return self.gone


def http_answer(data: bytes) -> None:
    """The answer of an upstream's HTTP server, up to the end of its connection."""

    def read(pieces: Pieces) -> list[Any]:
        wire, transport = Wire(loop(), lambda wire: None), _Transport()
        wire.connection_made(transport)  # type: ignore[arg-type]
        answer = wire.ask(b"")
        for piece in pieces:
            if not transport.gone:
                wire.data_received(piece)
        wire.connection_lost(None)
        return _taken(answer)

    same(read, data)


def _taken(answer: Answer) -> list[Any]:
    assert answer.head.done(), "a closed connection leaves its asker waiting"
    if answer.head.exception() is not None:
        return [type(answer.head.exception())]
    told = [answer.status, tuple(answer.headers.items())]
    try:
        check_status(answer.status, answer.headers)
    except UpstreamFailed as error:
        # What a client is told of it has to fit into its headers.
        of_error(error).headers()
    body = bytearray()
    pouring = answer.pour(lambda piece: bool(body.extend(piece)), lambda: math.inf)
    try:
        pouring.send(None)
    except StopIteration:
        return [*told, bytes(body)]
    except UpstreamFailed as error:
        return [*told, bytes(body), type(error)]
    pouring.close()
    raise AssertionError("a closed connection leaves its reader waiting")
