"""How things stand on one node: counted when somebody asks, by looking at what is there."""

from collections import Counter

from server.counts import Levels
from server.session.hub import Hub
from server.session.producer import Producer
from server.session.producers import Producers


def levels(hub: Hub, producers: Producers, down: float, draining: bool) -> Levels:
    """Count the sessions that run here, and all viewers."""
    sessions = Counter({"running": 0, "paused": 0, "lingering": 0})
    sessions.update(map(_state, producers))
    viewers: Counter[str] = Counter()
    behind = furthest = 0
    for follower in hub.followers.values():
        limit = follower.tail.limit
        for form, viewer in follower.tail.forms():
            viewers[form] += 1
            if not viewer.still and viewer.position < limit:
                behind += 1
                furthest = max(furthest, limit - viewer.position)
    queued = sum(producer.appender.backlog for producer in producers)
    return Levels(sessions, viewers, behind, furthest, queued, down, draining)


def _state(producer: Producer) -> str:
    if producer.appender.over.done():
        return "lingering"
    return "running" if producer.tail.gate is None else "paused"
