"""Connections to Redis: made from a URL, checked once, told nothing of what they carry."""

import logging
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from server.errors import StoreUnavailable

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 2.0


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
    """Makes connections for one URL: redis://, rediss:// or unix://.

    No timeout of the library's (on Python 3.11 they swallow a cancellation), no retry (a lost reply
    would re-send the write), RESP 2, no decoding.
    """

    def __init__(self, url: str) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )

    def make(self) -> AbstractConnection:
        """Return a new connection, not connected yet."""
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def ready(self, connection: AbstractConnection) -> None:
        """Take a connection into use; here is where a follower of masters would look."""

    async def facts(self) -> ServerFacts:
        """Ask the server who it is; raise `StoreUnavailable` if it cannot be reached."""
        connection = self.make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            info = await _ask(connection, "INFO")
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}") from error
        finally:
            await connection.disconnect(nowait=True)
        lines = dict(line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)
        major, minor = lines["redis_version"].split(".")[:2]
        return ServerFacts((int(major), int(minor)), lines.get("maxmemory_policy", ""))


async def _ask(connection: AbstractConnection, *command: Any) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(disable_decoding=True)
