"""What handlers share: the node, the settings they need."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from server.session.inspection import Inspection
from server.session.node import Node
from server.transport.heart import Heart


@dataclass(frozen=True, slots=True)
class Context:
    """One application's node and rules; times in seconds, sizes in bytes.

    `count` counts a request of a principal's, or raises `RateLimited`.
    """

    node: Node
    heart: Heart
    grace: float
    max_frame: int
    max_commands: int
    send_timeout: float
    count: Callable[[str], Awaitable[None]]
    inspection: Inspection


CONTEXT = web.AppKey("context", Context)
