"""Clients that pause, resume and abort: over HTTP through any node, or in-band on their own socket."""

import asyncio
import json
from typing import Any

import aiohttp

from tests.chaos.reading import BROKEN, Gone, is_final, item_of

REPLY = 8.0
TRIES = 40
"""A paused session is resumed however often that takes."""


async def steer_by_http(world: Any, http: aiohttp.ClientSession, sid: str) -> None:
    """Pause, resume, perhaps abort, each through any node."""
    dice = world.dice
    if dice.random() < 0.3:
        await asyncio.sleep(dice.uniform(0.0, 0.3))
        await _ask(world, http, sid, "abort")
        return
    for _ in range(dice.choice((1, 2))):
        await asyncio.sleep(dice.uniform(0.05, 1.0))
        await _ask(world, http, sid, "pause")
        await asyncio.sleep(dice.uniform(0.3, 1.2))
        # Also without an answer: it may have been taken.
        for _ in range(TRIES):
            if await _ask(world, http, sid, "resume"):
                break
            await asyncio.sleep(0.5)
    if dice.random() < 0.4:
        await _ask(world, http, sid, "abort")


async def _ask(world: Any, http: aiohttp.ClientSession, sid: str, action: str) -> bool:
    call = world.mint("call")
    world.record("asked", call=call, sid=sid, action=action, conn=None)
    try:
        async with http.post(world.url(f"/v1/sessions/{sid}/{action}")) as response:
            answer = await response.json()
            if response.status in (404, 410):
                return True  # nothing is left to be steered
            if response.status != 200:
                return False
    except BROKEN:
        return False
    world.record("answered", call=call, sid=sid, action=action, conn=None, answer=answer)
    return True


class InBand:
    """One socket that reads a session and steers it."""

    def __init__(self, world: Any, socket: aiohttp.ClientWebSocketResponse, sid: str) -> None:
        self.last: str | None = None
        self.over = ""
        self._world = world
        self._socket = socket
        self._sid = sid
        self.client, self._conn = world.mint("client"), world.mint("conn")

    async def attach(self) -> None:
        """Ask for the session from its start."""
        where = {"client": self.client, "conn": self._conn, "sid": self._sid}
        self._world.record("attach", **where, transport="in-band", after=None)
        await self._socket.send_json({"type": "attach", "ref": "attach", "session": self._sid})

    async def read_for(self, seconds: float) -> None:
        """Take what comes for a while, or until the end."""
        try:
            async with asyncio.timeout(seconds):
                while not self.over:
                    await self._next()
        except TimeoutError:
            pass

    async def ask(self, action: str) -> bool:
        """Send a command, and read until its reply; say whether it was taken."""
        call = self._world.mint("call")
        facts = {"call": call, "sid": self._sid, "action": action, "conn": self._conn}
        self._world.record("asked", **facts)
        await self._socket.send_json({"type": action, "ref": call, "session": self._sid})
        async with asyncio.timeout(REPLY):
            while True:
                reply = await self._next()
                if reply is not None and reply.get("ref") == call:
                    if reply["ok"]:
                        self._world.record("answered", **facts, answer=reply)
                    return bool(reply["ok"])

    async def _next(self) -> dict[str, Any] | None:
        message = await self._socket.receive(timeout=None)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(self._socket.close_code)
        body = json.loads(message.data)
        if body["type"] == "reply":
            if not body["ok"] and body["ref"] == "attach":
                raise Gone() if body["error"]["code"] in ("not_found", "gone") else ConnectionError()
            return dict(body)
        body.pop("session", None)
        if (item := item_of(body)) is not None:
            self._take(item)
        return None

    def _take(self, item: dict[str, Any]) -> None:
        where = {"client": self.client, "conn": self._conn, "sid": self._sid}
        if "id" not in item:
            self._world.record("notice", **where, **item)
            if item["type"] == "reset":
                self.last = None
                self.over = "gone" if item["facts"].get("reason") == "gone" else ""
            return
        self._world.record("event", **where, **item)
        self.last = item["id"]
        if is_final(item["line"]):
            self.over = "final"

    def close(self, how: str) -> None:
        """Note how it ended."""
        self._world.record("closed", client=self.client, conn=self._conn, sid=self._sid, how=how)


async def steer_in_band(world: Any, http: aiohttp.ClientSession, sid: str, read_on: Any) -> None:
    """Read and steer on one socket; if that breaks, resume over HTTP and read on elsewhere."""
    here = None
    try:
        async with http.ws_connect(world.url("/v1/ws")) as socket:
            here = InBand(world, socket, sid)
            await here.attach()
            await _drive(world, here)
            here.close(here.over)
            return
    except Gone:
        assert here is not None
        here.close("gone")
        return
    except BROKEN:
        pass
    for _ in range(TRIES):
        if await _ask(world, http, sid, "resume"):
            break
        await asyncio.sleep(0.5)
    if here is not None:
        here.close("broken")
        await read_on(world, http, sid, here.client, here.last)


async def _drive(world: Any, here: InBand) -> None:
    dice = world.dice
    await here.read_for(dice.uniform(0.05, 0.8))
    if not here.over:
        await here.ask("pause")
        await here.read_for(dice.uniform(0.2, 1.0))
        # Also behind the end, which may have overtaken the pause: others are held.
        if not await here.ask("resume") and not here.over:
            raise ConnectionError  # asked for again over HTTP: nobody else will
        await here.read_for(dice.uniform(0.05, 0.8))
    if not here.over and dice.random() < 0.4:
        await here.ask("abort")
    while not here.over:
        await here.read_for(4.0)
        if world.late:
            raise ConnectionError
