"""A token-stream server: one upstream token stream, one log in Redis, SSE and WebSocket."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.app import create_app
    from server.client import Client, SyncClient
    from server.settings import Settings

__all__ = ["Client", "Settings", "SyncClient", "create_app"]
_HOMES = {
    "create_app": "server.app",
    "Settings": "server.settings",
    "Client": "server.client",
    "SyncClient": "server.client",
}


def __getattr__(name: str) -> Any:
    # Only when asked for: the command line answers --help without loading a web server.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(name)
