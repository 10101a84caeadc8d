"""A real server with a real Valkey, and clients that send it what `calls.py` makes.

No answer may be a 5xx, nothing may be in its log, others have to be served meanwhile, byte for byte, and
when all is over it holds what it held before: tasks, files, memory, and no key for ever.
"""

import asyncio
import random
import re
import signal
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp

from server.callers import Right
from server.ops import keys
from tests.clients import collect, ndjson, seqs, sse, start, text_of, ws
from tests.fuzz.answers import complaint
from tests.fuzz.calls import EPOCH, SID, Caller
from tests.fuzz.clients import KEY
from tests.fuzz.judge import Finding
from tests.fuzz.tally import Tally
from tests.processes import Process, demo_text, descriptors, memory, serve
from tests.redis_server import RedisServer, binaries

AT_ONCE = 24
QUIET = 0.08
"""Seconds without a byte after which a client leaves."""
PATIENCE = 60.0
"""Seconds for an answer that is due at once, on a machine that is busy."""
REST = 180.0
"""Seconds for all that was started to be over."""
PULSE = 1.0
TOKENS = 200
WARM = 240
"""Inputs until a server holds what it will hold."""
STAY = 0.4
"""Seconds after which a client leaves, whatever comes."""
GROWTH = 40 << 20
"""Bytes that a server may hold more than after its first thousands of connections."""
FLAGS: dict[str, object] = {
    "max-seconds": 4, "max-tokens": 2000, "linger": 0.5, "ttl": 30, "lease": 2, "drain": 0,
    "push-grace": 1, "upstream-stall": 3, "first-token": 3, "heartbeat": 1, "pause-ttl": 2,
    "send-timeout": 2, "idle-timeout": 5, "max-requests": 1 << 40, "max-running": 1 << 40,
    "max-paused": 1 << 40, "max-stored": 1 << 40, "max-streams": 1 << 40, "log-level": "error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Held:
    """What a server holds."""

    tasks: int
    files: int
    memory: int

    def exceeds(self, before: "Held") -> bool:
        """Say whether that is more than it was."""
        lasting = self.tasks > before.tasks or self.files > before.files
        return lasting or self.memory > before.memory + GROWTH

    def __str__(self) -> str:
        return f"{self.tasks} tasks, {self.files} files, {self.memory / (1 << 20):.1f} MiB"


class Fuzzed:
    """The server, what is known of it, and the sessions whose names go into inputs."""

    def __init__(
        self, node: Process, redis: RedisServer, log: IO[bytes], http: aiohttp.ClientSession
    ) -> None:
        self.node = node
        self.redis = redis
        self.http = http
        self.names: list[tuple[bytes, bytes]] = []
        self.slowest = 0.0
        self._log = log
        self._read = 0

    def logged(self) -> str:
        """Return what is new in its log."""
        self._log.flush()
        text = Path(self._log.name).read_bytes()
        new, self._read = text[self._read :], len(text)
        return new.decode(errors="replace")

    async def held(self) -> Held:
        """Ask what it holds."""
        assert self.node.process.stdout is not None
        self.node.signal(signal.SIGUSR2)
        async with asyncio.timeout(PATIENCE):
            tasks = int(await self.node.process.stdout.readline())
        pid = self.node.process.pid
        return Held(tasks, descriptors(pid), memory(pid))

    async def at_rest(self, until: Callable[[Held, Held], bool]) -> Held:
        """Wait until it has come to rest; return what it holds then, or at last."""
        deadline = time.monotonic() + REST
        last = await self.held()
        while True:
            await asyncio.sleep(PULSE)
            now = await self.held()
            if until(last, now) or time.monotonic() > deadline:
                return now
            last = now

    async def renew(self) -> None:
        """Have sessions of each kind: ended, running, and waiting for a push."""
        names = []
        for body in (
            {"prompt": "x", "tokens": 20, "rate": 0}, {"prompt": "x", "rate": 20}, {"upstream": "push"},
        ):  # fmt: skip
            sid = await start(self.http, self.node, **body)
            async with self.http.get(self.node.url(f"/v1/sessions/{sid}")) as answer:
                names.append((sid.encode(), str((await answer.json())["epoch"]).encode()))
        self.names = names

    async def check(self) -> None:
        """Have it stream to the byte, in each format."""
        sid = await start(self.http, self.node, prompt="a b", tokens=TOKENS, rate=0)
        said = await demo_text("a b", TOKENS)
        for read in (sse, ndjson, ws):
            events = await collect(read(self.http, self.node, sid))
            assert (text_of(events), seqs(events)) == (said, list(range(1, TOKENS + 2))), (
                "not what was said"
            )

    async def pulse(self) -> None:
        """Look again and again whether it answers, and to others as it should."""
        while True:
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                async with self.http.get(self.node.url("/readyz")) as answer:
                    assert answer.status == 200, "not ready"
                self.slowest = max(self.slowest, time.monotonic() - began)
                await self.renew()
                await self.check()
            await asyncio.sleep(PULSE)

    async def send(self, data: bytes) -> bytes:
        """Send an input over a connection of its own, in some pieces; return what was answered."""
        dice = random.Random(data)
        sid, epoch = dice.choice(self.names)
        data = data.replace(SID.encode(), sid).replace(EPOCH.encode(), epoch)
        cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 0, 0, 1, 3))))
        answer = bytearray()
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.node.port)
        try:
            for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True):
                writer.write(data[a:b])
                await asyncio.sleep(0)
            until = time.monotonic() + STAY
            while time.monotonic() < until and (piece := await _read(reader)):
                answer += piece
            if dice.random() < 0.5 and writer.can_write_eof():
                writer.write_eof()
                answer += await _read(reader)
        except OSError:
            pass  # the server may hang up on what it does not like
        finally:
            writer.transport.abort()
        return bytes(answer)

    async def round(self, inputs: Sequence[bytes]) -> list[Finding]:
        """Send inputs at once; return what is wrong with the answers, or in the log."""
        answers = await asyncio.gather(*map(self.send, inputs))
        findings = [
            Finding(f"{what} to {_path(data)}", data, answer[:2000].decode(errors="replace"))
            for data, answer in zip(inputs, answers, strict=True)
            if (what := complaint(answer)) is not None
        ]
        if text := self.logged():
            findings.append(Finding(_place(text), await self._blamed(inputs), text[-3000:]))
        return findings

    async def _blamed(self, inputs: Sequence[bytes]) -> bytes:
        """Return the input after which there is something in the log, if it is one of them alone."""
        for data in inputs:
            await self.send(data)
            if self.logged():
                return data
        return b"\n".join(inputs)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return what comes; nothing if that is nothing for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(QUIET):
            return await reader.read(65536)
    return b""


def _path(data: bytes) -> str:
    """Name a call, without what is different in each."""
    line = data.partition(b"\r\n")[0].replace(SID.encode(), b"SID").decode(errors="replace")
    found = re.match(r"\S+ [\w/]*", line)
    return found[0][:60] if found else "what is no request"


def _place(text: str) -> str:
    """Name what was logged by the last of our lines in it."""
    frames = re.findall(r"/server/(\S+:\d+ \w+)", text)
    head = text.partition("\n")[0].partition(" ERROR ")[2] or text[:80]
    return f"logged: {head[:80]} {frames[-1] if frames else ''}".rstrip()


@asynccontextmanager
async def running() -> AsyncIterator[Fuzzed]:
    """Run a server with all it needs, and end it."""
    line = keys.Key("app", frozenset(Right), keys.hash_of(KEY)).line
    headers, connector = {"Authorization": f"Bearer {KEY}"}, aiohttp.TCPConnector(force_close=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, (Path(folder) / "log").open("wb") as log:
        redis = RedisServer(binaries()[0], Path(folder))
        try:
            program = ("-m", "tests.fuzz.probe")
            node = await serve(redis.url, program=program, errors=log, keys=line, **FLAGS)
            try:
                async with aiohttp.ClientSession(headers=headers, connector=connector) as http:
                    fuzzed = Fuzzed(node, redis, log, http)
                    await fuzzed.renew()
                    yield fuzzed
            finally:
                await node.end()
        finally:
            redis.kill()


async def fuzz(seed: int, enough: Callable[[int], bool]) -> Tally:
    """Send inputs until `enough` says so of their number; return what was wrong."""
    tally, caller = Tally("live"), Caller(random.Random(f"{seed} live"))
    began = time.monotonic()
    async with running() as fuzzed:
        try:
            await _rounds(fuzzed, tally, caller, lambda count: count >= WARM)
            before = await fuzzed.at_rest(
                lambda last, now: (last.tasks, last.files) == (now.tasks, now.files)
            )
            await _rounds(fuzzed, tally, caller, enough)
            tally.seconds = time.monotonic() - began
            after = await fuzzed.at_rest(lambda _, now: not now.exceeds(before))
            wrong = await _after(fuzzed, before, after)
            tally.note = (
                f"the server held {before} before, {after} after; slowest answer {fuzzed.slowest:.2f} s"
            )
        except (OSError, TimeoutError, ValueError, AssertionError, aiohttp.ClientError) as error:
            wrong = [f"the server fails: {''.join(traceback.format_exception(error))}"]
    for what in wrong:
        tally.add(Finding(what.partition("\n")[0], b"", what))
    return tally


async def _rounds(fuzzed: Fuzzed, tally: Tally, caller: Caller, enough: Callable[[int], bool]) -> None:
    pulse = asyncio.create_task(fuzzed.pulse())
    try:
        while not enough(tally.inputs):
            inputs = [caller.next() for _ in range(AT_ONCE)]
            for finding in await fuzzed.round(inputs):
                tally.add(finding)
            tally.inputs += len(inputs)
            if pulse.done():
                told = "".join(traceback.format_exception(pulse.exception()))
                tally.add(Finding("others are not served", b"\n".join(inputs), told))
                return
    finally:
        pulse.cancel()
        await asyncio.gather(pulse, return_exceptions=True)


async def _after(fuzzed: Fuzzed, before: Held, after: Held) -> list[str]:
    """Say what is wrong when all is over."""
    wrong = [f"it holds more than before: {before}; {after}"] if after.exceeds(before) else []
    client = fuzzed.redis.client()
    forever = [key for key in client.scan_iter("*") if client.ttl(key) == -1]
    client.close()
    if forever:
        wrong.append(f"keys without an end: {forever[:3]}")
    await fuzzed.check()
    return wrong + ([text] if (text := fuzzed.logged()) else [])


async def again(data: bytes) -> list[Finding]:
    """Send one input to a fresh server, a few times."""
    async with running() as fuzzed:
        return [finding for _ in range(3) for finding in await fuzzed.round([data])]
