"""Connections to Redis: made from a URL, checked once, told nothing of what they carry."""

import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from server.errors import StoreUnavailable

CONNECT_TIMEOUT = 2.0
SENTINEL_TIMEOUT = 1.0


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself, as far as it matters here."""

    version: tuple[int, int]
    policy: str

    @property
    def flags(self) -> bool:
        """Whether scripts may carry flags."""
        return self.version >= (7, 0)


class Connections:
    """Makes connections to one server, or to whichever is a master's now; `ready` takes one into use."""

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        ready: Callable[[AbstractConnection], Awaitable[None]],
    ) -> None:
        self.make = make
        self.ready = ready

    async def facts(self) -> ServerFacts:
        """Ask the server who it is; raise `StoreUnavailable` if it cannot be reached."""
        connection = self.make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await self.ready(connection)
            info = await ask(connection, "INFO")
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis cannot be reached: {_reason(error)}") from error
        finally:
            await connection.disconnect(nowait=True)
        lines = dict(line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)
        major, minor = lines["redis_version"].split(".")[:2]
        return ServerFacts((int(major), int(minor)), lines.get("maxmemory_policy", ""))


class RedisUrl:
    """A URL taken apart: `kind` is "" (one server), "sentinel" or "cluster".

    `redis://`, `rediss://` or `unix://`; `redis+sentinel://host:port,…/service[/db]` or
    `redis+cluster://host:port,…`, each also as `rediss+…`, which verifies every server's certificate,
    the sentinels' too (`?ssl_ca_certs=FILE` for a private CA). User and password are those of Redis; the
    sentinels' own may be given as `?sentinel_username=…&sentinel_password=…`.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        base, _, self.kind = scheme.partition("+")
        rest, question, query = rest.partition("?")
        place, slash, path = rest.partition("/")
        credentials, at, hosts = place.rpartition("@")
        self.service = ""
        self.addresses: list[Address] = []
        if self.kind:
            self.addresses = [_address(host) for host in hosts.split(",")]
            if self.kind == "sentinel":
                self.service, slash, path = path.partition("/")
            url = f"{base}://{credentials}{at}host{slash}{path}{question}{query}"
        self._options: dict[str, Any] = dict(parse_url(url))
        self._sentinel = {
            name: self._options.pop(f"sentinel_{name}")
            for name in ("username", "password")
            if f"sentinel_{name}" in self._options
        }
        # No timeout of the library's (on Python 3.11 they swallow a cancellation), no retry (a lost
        # reply would re-send the write), RESP 2, no decoding, no CLIENT SETINFO (Redis 7.0 has none).
        self._options |= {
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }

    def server(self) -> Connections:
        """Return what connects to the one server."""
        return Connections(ConnectionPool(**self._options).make_connection, _trusted)

    def at(self, address: Address) -> Connections:
        """Return what connects to one server of a cluster."""
        pool = ConnectionPool(**self._options | address._asdict())
        return Connections(pool.make_connection, _trusted)

    def master(self) -> Connections:
        """Return what connects to the server that the sentinels name, if it calls itself the master."""
        timeouts = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
        options = {k: v for k, v in self._options.items() if k not in ("host", "port")}
        options["ssl"] = options.pop("connection_class", None) is not None
        secured = {k: v for k, v in options.items() if k == "ssl" or k.startswith("ssl_")}
        asked = {**timeouts, **secured, **self._sentinel, "retry": Retry(NoBackoff(), 0)}
        asked["driver_info"] = None
        sentinels = Sentinel(self.addresses, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
        pool = SentinelConnectionPool(self.service, sentinels, **options)  # type: ignore[no-untyped-call]
        # A connection of the pool's refers to it weakly.
        return Connections(lambda: pool.make_connection(), _master)  # type: ignore[no-untyped-call]


async def ask(connection: AbstractConnection, *command: Any) -> Any:
    """Send one command, and return its reply; raise `RedisError` or `OSError`."""
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(disable_decoding=True)


def _reason(error: BaseException) -> str:
    """Say why in words that hold neither an address nor a password."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate does not hold ({cause.verify_message})"
        if isinstance(cause, AuthenticationError):
            return "it refuses the user or the password"
        if isinstance(cause, NoPermissionError):
            return "its ACL does not let this user do what is needed"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


async def _trusted(connection: AbstractConnection) -> None:
    """Take any server for what it was named to be."""


async def _master(connection: AbstractConnection) -> None:
    role: Sequence[Any] = await ask(connection, "ROLE")
    if role[0] != b"master":
        # The sentinels were asked a moment too early; the next attempt asks again.
        raise ConnectionError("not the master")


def _address(host: str) -> Address:
    parts = urlsplit(f"//{host}")
    return Address(parts.hostname or "localhost", parts.port or 6379)
