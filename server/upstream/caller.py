"""What all model servers over HTTP have in common: how they are asked, how often, how long they may take.

Nothing is retried once a token has come. An upstream's own words of failure are never passed on:
they may hold keys.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from yarl import URL

from server.errors import (
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamUnreachable,
)
from server.events import FinalEvent
from server.upstream import Feed
from server.upstream.exchange import Answer
from server.upstream.http_answers import check_status
from server.upstream.http_client import HttpClient

log = logging.getLogger(__name__)

RETRIES = 2
RETRY_BUDGET = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask and with which key, which nothing ever prints."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)

    def url(self, path: str) -> str:
        """Return the address of one of its calls."""
        return f"{self.base_url.rstrip('/')}/{path}"


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """One question to a model server; nothing ever prints it, since it holds the key."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def name(self) -> str:
        """Return the address without the places where passwords are."""
        return str(URL(self.url).with_user(None).with_query(None))


class Reader(Protocol):
    """One answer's body in progress."""

    @property
    def begun(self) -> bool:
        """Whether there was an event."""

    def feed(self, piece: bytes) -> bool:
        """Push the events that a piece completes; return whether that was all."""

    def finish(self) -> FinalEvent:
        """Return the end; raise `UpstreamTruncated` if the body ended before it."""


class Caller:
    """A client of model servers; seconds for what it waits.

    `connect` is for the connection, `first_token` for the first token, retries and all, and
    `stall` for the silence after that.
    """

    def __init__(self, stall: float, first_token: float, connect: float = 5.0) -> None:
        self._stall = stall
        self._first_token = first_token
        self._http = HttpClient(connect)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    def _until(self) -> float:
        """Return when the first token has to be here."""
        return asyncio.get_running_loop().time() + self._first_token

    async def _pour(self, answer: Answer, reader: Reader, until: float, feed: Feed) -> FinalEvent:
        # Only an event ends the wait for the first token: bytes may be comments.
        await answer.pour(reader.feed, lambda: answer.last + self._stall if reader.begun else until, feed)
        return reader.finish()

    async def _answer(self, call: Call, until: float, kinds: Collection[str] = ()) -> Answer:
        """Return an answer of one of the kinds (none: any); overload and lost connections are retried."""
        budget = RETRY_BUDGET
        for attempt in itertools.count():
            try:
                answer = await self._ask(call, until)
            except (UpstreamRateLimited, UpstreamUnreachable) as error:
                wait = error.retry_after
                if wait is None:
                    wait = random.uniform(0.25, 0.75) * 2**attempt
                budget -= wait
                late = asyncio.get_running_loop().time() + wait > until
                if attempt == RETRIES or budget < 0 or late:
                    raise
            else:
                return _streaming(answer, kinds)
            await asyncio.sleep(wait)
        raise AssertionError  # pragma: no cover

    async def _ask(self, call: Call, until: float) -> Answer:
        try:
            answer = await self._http.ask(call.method, call.url, call.headers, call.body, until)
            with _closed_on_failure(answer):
                check_status(answer.status, answer.headers)
        except UpstreamFailed as error:
            what = f"HTTP {error.upstream_status}" if error.upstream_status else error.code
            log.warning("%s: %s", call.name, what)
            raise
        return answer


@contextmanager
def _closed_on_failure(answer: Answer) -> Iterator[None]:
    try:
        yield
    except UpstreamFailed:
        answer.close()
        raise


def _streaming(answer: Answer, kinds: Collection[str]) -> Answer:
    with _closed_on_failure(answer):
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise UpstreamInvalid("The model server compressed its answer, unasked.")
        if kinds and answer.content_type not in kinds:
            raise UpstreamInvalid("The model server did not answer with an event stream.")
    return answer
