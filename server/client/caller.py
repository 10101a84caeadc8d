"""Calls to a server, asked again until they are answered: every one of them may be repeated."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol
from weakref import WeakSet

import aiohttp
import msgspec
from yarl import URL

from server.client.answers import Refusal, error_in, is_passing
from server.client.backoff import Backoff
from server.client.items import UNREADABLE
from server.client.reports import Closed, Hangup, Lost, Report, Unreachable

ANSWER = 30.0
"""Seconds within which a call must be answered."""
LOST = (aiohttp.ClientError, OSError, TimeoutError)


class Wire(Protocol):
    """A connection that carries a stream."""

    async def aclose(self) -> None:
        """Hang up."""


class Caller:
    """What the streams of one client share: its connections and its patience, in seconds.

    `wires` are the streams' connections; `tell` is called with each report.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        silence: float,
        patience: float,
        tell: Callable[[Report], None],
    ) -> None:
        self.base = URL(url.rstrip("/"))
        self.silence = silence
        self.patience = patience
        self.tell = tell
        self.wires: WeakSet[Wire] = WeakSet()
        self._headers = dict(headers)
        self._http: aiohttp.ClientSession | None = None
        self._limits: set[asyncio.Timeout] = set()
        self._closed = False

    @property
    def http(self) -> aiohttp.ClientSession:
        """The connections; they belong to the loop that first asks for them."""
        if self._http is None:
            self._http = aiohttp.ClientSession(
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
                connector=aiohttp.TCPConnector(limit=0),
            )
        return self._http

    def session(self, sid: str) -> URL:
        """Return a session's address."""
        return self.base / "v1/sessions" / sid

    async def control(self, sid: str, action: str) -> dict[str, Any]:
        """Pause, resume or abort; asked twice, it is answered twice the same."""
        return await self.ask("POST", self.session(sid) / action)

    async def ask(
        self, method: str, url: URL, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the answer's object; raise the server's error, `Unreachable` or `Closed`."""
        backoff, loop = Backoff(), asyncio.get_running_loop()
        until = loop.time() + self.patience
        while True:
            least: float | None = None
            try:
                async with self.within(ANSWER):
                    answer = await self._ask_once(method, url, body, headers)
                if isinstance(answer, dict):
                    return answer
                if not is_passing(answer):
                    raise answer
                why, least = str(answer), answer.retry_after
            except LOST as error:
                why = f"{type(error).__name__}: {error}"
            wait = backoff.next(least)
            if loop.time() + wait > until:
                raise Unreachable(f"{self.base}: {why}")
            await self.rest(Lost(url.path, why, wait))

    async def rest(self, lost: Lost) -> None:
        """Report it, and wait until the next try; raise `Closed` once there is to be none."""
        async with self.within(None):
            self.tell(lost)
            await asyncio.sleep(lost.wait)

    @asynccontextmanager
    async def within(self, seconds: float | None) -> AsyncIterator[None]:
        """Wait no longer than that: `TimeoutError`; and not once the client is closed: `Closed`."""
        if self._closed:
            raise Closed
        try:
            async with asyncio.timeout(seconds) as limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.remove(limit)
        except TimeoutError:
            if self._closed:
                raise Closed from None
            raise

    async def _ask_once(
        self, method: str, url: URL, body: Any, headers: Mapping[str, str] | None
    ) -> dict[str, Any] | Refusal:
        async with self.http.request(
            method, url, json=body, headers=headers, allow_redirects=False
        ) as response:
            if response.status == 204:
                return {}
            if response.status not in (200, 201):
                return await error_in(response)
            try:
                return msgspec.json.decode(await response.read(), type=dict[str, Any])
            except UNREADABLE:
                return Hangup("the answer is no server's of ours")

    async def aclose(self) -> None:
        """Close all connections; whoever waits for one gets `Closed`."""
        self._closed = True
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(0.0)
        for wire in list(self.wires):
            await wire.aclose()
        if self._http is not None:
            await self._http.close()
