"""A client that reconnects: one session, either transport, every event once and in order."""

from server.client.client import Client
from server.client.items import Arrival, Item, Paused, Reset, Resumed, Unknown
from server.client.reports import (
    BrokenStream,
    Closed,
    Lost,
    Opened,
    Refused,
    Report,
    Unfinished,
    Unreachable,
)
from server.client.stream import Stream
from server.client.sync import SyncClient, SyncStream

__all__ = [
    "Arrival",
    "BrokenStream",
    "Client",
    "Closed",
    "Item",
    "Lost",
    "Opened",
    "Paused",
    "Refused",
    "Report",
    "Reset",
    "Resumed",
    "Stream",
    "SyncClient",
    "SyncStream",
    "Unfinished",
    "Unknown",
    "Unreachable",
]
