"""How Redis is set up: one server, a master behind sentinels, or a cluster; the URL says which."""

import asyncio
from collections.abc import Callable

from server.errors import StoreUnavailable
from server.session.cluster import Cluster
from server.session.connections import Address, Connections, RedisUrl, ServerFacts
from server.session.jobs import Carrier
from server.session.pace import Pace
from server.session.pipeline import Pipeline
from server.session.slots import Slots


class OneServer:
    """One server, or the master that sentinels name; for a doorbell, the place of every channel."""

    word = ""

    def __init__(self, connections: Connections) -> None:
        self.changed: list[Callable[[], None]] = []
        self._connections = connections

    async def facts(self) -> list[ServerFacts]:
        """Ask the server who it is; raise `StoreUnavailable` if it cannot be reached."""
        return [await self._connections.facts()]

    def carrier(self, pace: type[Pace] | None = None) -> Carrier:
        """Return what carries jobs; with a pace, they wait for company while the node is busy."""
        return _pipeline(self._connections, pace)

    def of(self, channel: str) -> Address | None:
        """Return nothing: there is but one."""
        return None

    def connections(self, address: Address | None) -> Connections:
        """Return what connects to it."""
        return self._connections

    def moved(self, slot: int, to: Address) -> None:
        """Take no notice: nothing moves."""

    def doubt(self) -> None:
        """Take no notice: whoever connects is told where."""

    async def aclose(self) -> None:
        """End nothing."""


class ManyServers:
    """A cluster; for a doorbell, the places of channels."""

    word = "S"

    def __init__(self, slots: Slots) -> None:
        self.changed = slots.changed
        self.of = slots.owner
        self.moved = slots.moved
        self.doubt = slots.doubt
        self.aclose = slots.aclose
        self._slots = slots

    async def facts(self) -> list[ServerFacts]:
        """Ask every master who it is; raise `StoreUnavailable` if none can be reached."""
        asked = [self._slots.at(address).facts() for address in self._slots.masters]
        told = await asyncio.gather(*asked, return_exceptions=True)
        if facts := [answer for answer in told if isinstance(answer, ServerFacts)]:
            return facts
        raise StoreUnavailable("Redis cannot be reached: no master of the cluster answers.")

    def carrier(self, pace: type[Pace] | None = None) -> Carrier:
        """Return what carries jobs; with a pace, they wait for company while the node is busy."""
        return Cluster(self._slots, lambda address: _pipeline(self._slots.at(address), pace))

    def connections(self, address: Address | None) -> Connections:
        """Return what connects to it."""
        return self._slots.at(address or min(self._slots.masters))


def _pipeline(connections: Connections, pace: type[Pace] | None) -> Pipeline:
    return Pipeline(connections.make, connections.ready, pace() if pace else None)


async def deployed(url: str) -> OneServer | ManyServers:
    """Return what a URL names; raise `StoreUnavailable` if a cluster cannot be reached."""
    parsed = RedisUrl(url)
    if parsed.kind == "cluster":
        slots = Slots(parsed.addresses, parsed.at)
        await slots.open()
        return ManyServers(slots)
    return OneServer(parsed.master() if parsed.kind == "sentinel" else parsed.server())
