"""An HTTP/1.1 client for upstreams: connections that are kept, TLS, and one deadline each.

It does what an upstream needs and no more: no redirects, no proxies, no compression, no cookies.
"""

import asyncio
import base64
import ssl
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache, partial

from yarl import URL

from server.errors import UpstreamInvalid, UpstreamRejected, UpstreamStall, UpstreamUnreachable
from server.upstream.exchange import Answer, Wire

KEPT = 15.0
"""Seconds that an unused connection is kept; servers close theirs somewhat later."""

_Place = tuple[str, str, int]


class HttpClient:
    """Connections by place; `connect` is the seconds for making one."""

    def __init__(self, connect: float) -> None:
        self._connect = connect
        self._free: defaultdict[_Place, list[Wire]] = defaultdict(list)
        self._wires: set[Wire] = set()

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, until: float
    ) -> Answer:
        """Send a request, and return its answer once the head is here.

        Raise `UpstreamUnreachable`, `UpstreamInvalid` for what is not HTTP, or `UpstreamStall` when the
        loop's clock passes `until`.
        """
        target = _target(url)
        request = _request(method, target, headers, body)
        place = (target.scheme, target.raw_host or "", target.port or 0)
        while True:
            wire = self._kept(place) or await self._opened(place, until)
            again = wire.used
            answer = wire.ask(request)
            try:
                async with asyncio.timeout_at(until):
                    await asyncio.shield(answer.head)
            except UpstreamUnreachable:
                # A kept connection may have been closed by the server just now.
                if not again:
                    raise
            except TimeoutError:
                wire.abort()
                raise UpstreamStall() from None
            except BaseException:
                wire.abort()
                raise
            else:
                return answer

    async def read(self, answer: Answer, limit: int, until: float) -> bytes:
        """Return the whole body of at most `limit` bytes; raise `UpstreamInvalid` for more."""
        body = bytearray()

        def take(piece: bytes) -> bool:
            body.extend(piece)
            if len(body) > limit:
                raise UpstreamInvalid("The model server sent an answer that is too large.")
            return False

        await answer.pour(take, lambda: until)
        return bytes(body)

    async def aclose(self) -> None:
        """Close every connection."""
        for wire in list(self._wires):
            wire.abort()
        await asyncio.sleep(0)

    def _keep(self, place: _Place, wire: Wire) -> None:
        free = self._free[place]
        free.append(wire)
        wire.loop.call_later(KEPT, self._drop, free, wire, wire.since)

    def _drop(self, free: list[Wire], wire: Wire, since: float) -> None:
        """Close a connection that nobody has used since."""
        if wire in free and wire.since == since:
            free.remove(wire)
            wire.abort()

    def _kept(self, place: _Place) -> Wire | None:
        free = self._free[place]
        while free:
            wire = free.pop()
            if wire.open and wire.loop.time() - wire.since < KEPT:
                return wire
            wire.abort()
        return None

    async def _opened(self, place: _Place, until: float) -> Wire:
        loop = asyncio.get_running_loop()
        scheme, host, port = place
        secure = _tls() if scheme == "https" else None
        try:
            async with asyncio.timeout_at(min(until, loop.time() + self._connect)):
                _, wire = await loop.create_connection(
                    lambda: Wire(loop, partial(self._keep, place)), host, port, ssl=secure
                )
        except (OSError, UnicodeError):
            # A timeout and a certificate that does not hold are among them.
            raise UpstreamUnreachable() from None
        self._wires = {known for known in self._wires if known.open}
        self._wires.add(wire)
        return wire


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _target(url: str) -> URL:
    try:
        target = URL(url)
    except ValueError:
        raise UpstreamUnreachable() from None
    if target.scheme not in ("http", "https") or not target.raw_host:
        raise UpstreamUnreachable()
    return target


def _request(method: str, target: URL, headers: Mapping[str, str], body: bytes) -> bytes:
    host = target.raw_host or ""
    named = {"Host": f"[{host}]" if ":" in host else host, "Accept-Encoding": "identity"}
    if not target.is_default_port():
        named["Host"] += f":{target.port}"
    if target.user is not None:
        pair = f"{target.user}:{target.password or ''}".encode()
        named["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    if body:
        named["Content-Length"] = str(len(body))
    lines = [f"{method} {target.raw_path_qs} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in (named | dict(headers)).items()]
    if any(mark in line for line in lines for mark in "\r\n\0"):
        raise UpstreamRejected("A header of the request holds a line break.")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8") + body
