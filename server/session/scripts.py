"""The Lua scripts: everything that changes a session, other than an append, is one of them.

Scripts return data, never raise, and touch only their keys. On Redis 7 and Valkey those that must
work in a full server carry the flag `allow-oom`; Redis 6.2 does not know the line and is not sent it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from redis.exceptions import NoScriptError

from server.errors import StoreUnavailable
from server.session.jobs import Carrier, Note, checked
from server.session.link import Command

PATIENCE = 2.0
_FLAGS: Final = {
    "create": "",
    "claim": "allow-oom",
    "inherit": "",
    "extend": "",
    "renew": "allow-oom",
    "control": "allow-oom",
    "regate": "allow-oom",
    "restore": "",
    "attend": "allow-oom",
    "wipe": "allow-oom",
    "take": "",
}


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source and the SHA-1 by which Redis knows it."""

    source: bytes
    sha: str


def load(flags: bool) -> dict[str, Script]:
    """Return the scripts by name; `flags` says whether the server knows the line for flags."""
    folder = files("server.session") / "lua"
    prelude = (folder / "prelude.lua").read_bytes()
    scripts = {}
    for name, flag in _FLAGS.items():
        shebang = f"#!lua flags={flag}\n".encode() if flags else b""
        source = shebang + prelude + (folder / f"{name}.lua").read_bytes()
        scripts[name] = Script(source, sha1(source, usedforsecurity=False).hexdigest())
    return scripts


class Runner:
    """Runs scripts and reads, all of them safe to repeat; raises `StoreUnavailable` when Redis fails.

    What got lost or was refused is asked for again for `PATIENCE` seconds.
    """

    def __init__(self, redis: Carrier, scripts: dict[str, Script]) -> None:
        self.scripts = scripts
        self._redis = redis

    async def script(
        self,
        name: str,
        keys: Sequence[str],
        arguments: Sequence[Any],
        *,
        after: tuple[Command, ...] = (),
        beside: tuple[Note, ...] = (),
        patience: float = PATIENCE,
    ) -> Sequence[Any]:
        """Run a script on keys of one slot and, in the same round trip, what comes `after` it.

        What goes `beside` it may go elsewhere, and fail.
        """
        script = self.scripts[name]
        tail = (len(keys), *keys, *arguments)

        async def run() -> Sequence[Any]:
            for note in beside:
                self._redis.submit(note)
            replies = await self._redis.call(keys[0], ("EVALSHA", script.sha, *tail), *after)
            if isinstance(replies[0], NoScriptError):
                replies = await self._redis.call(keys[0], ("EVAL", script.source, *tail), *after)
            return checked(replies[:1])

        answer: Sequence[Any] = (await _again(run, patience))[0]
        return answer

    def back_for(self, key: str) -> float:
        """Return the seconds since the Redis of `key` came back; for ever if it has not been away."""
        return self._redis.back_for(key)

    async def ask(self, key: str, *commands: Command) -> Sequence[Any]:
        """Return the replies to what may be asked twice, of the slot of `key`."""

        async def run() -> Sequence[Any]:
            return checked(await self._redis.call(key, *commands))

        return await _again(run, PATIENCE)


async def _again(run: Callable[[], Awaitable[Sequence[Any]]], patience: float) -> Sequence[Any]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        try:
            return await run()
        except StoreUnavailable:
            if loop.time() >= deadline:
                raise
            await asyncio.sleep(0.05)
