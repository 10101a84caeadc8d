"""What handlers share: the node, the settings they need."""

from dataclasses import dataclass

from aiohttp import web

from server.session.inspection import Inspection
from server.session.node import Node
from server.transport.heart import Heart


@dataclass(frozen=True, slots=True)
class Context:
    """One application's node and rules; times in seconds, sizes in bytes."""

    node: Node
    heart: Heart
    grace: float
    max_frame: int
    max_commands: int
    inspection: Inspection


CONTEXT = web.AppKey("context", Context)
