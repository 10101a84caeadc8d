"""How things stand on one node: counted when somebody asks, by looking at what is there."""

from collections import Counter
from collections.abc import Collection

from server.counts import Levels
from server.session.hub import Hub
from server.session.producer import Producer


def levels(hub: Hub, producers: Collection[Producer], down: float, full: float, draining: bool) -> Levels:
    """Count a node's sessions and viewers; the rest is told as it is."""
    sessions = Counter({"running": 0, "paused": 0, "lingering": 0})
    sessions.update(map(_state, producers))
    queued = sum(producer.appender.backlog for producer in producers)
    return Levels(sessions, *_viewers(hub), queued, down, full, draining)


def _state(producer: Producer) -> str:
    if producer.appender.over.done():
        return "lingering"
    return "running" if producer.tail.gate is None else "paused"


def _viewers(hub: Hub) -> tuple[Counter[str], int, int]:
    """Return the viewers by format, how many are behind, and how far the last of them."""
    viewers: Counter[str] = Counter()
    behind = furthest = 0
    for follower in hub.followers.values():
        limit = follower.tail.limit
        for form, viewer in follower.tail.forms():
            viewers[form] += 1
            if not viewer.still and viewer.position < limit:
                behind += 1
                furthest = max(furthest, limit - viewer.position)
    return viewers, behind, furthest
