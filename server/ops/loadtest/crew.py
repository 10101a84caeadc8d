"""The processes of a load test: started together, heard out, and ended."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from server.ops.loadtest.plan import Plan
from server.ops.loadtest.tally import Tally, merged
from server.ops.loadtest.worker import TICK, Share

WARM_UP = 1.0
"""Seconds for the processes to start."""
LINE = 64 * 1024 * 1024
OVERTIME = 10.0


class Crew:
    """All processes of one plan; `text` is what every session says."""

    def __init__(self, plan: Plan, text: Sequence[str]) -> None:
        self._plan = plan
        self._text = list(text)
        self._begins = time.time() + WARM_UP
        self._told: dict[int, Tally] = {}
        self._processes: list[asyncio.subprocess.Process] = []

    @property
    def tally(self) -> Tally:
        """What was seen by now, by all of them."""
        return merged(self._told.values())

    async def run(self, show: Callable[[Tally], None], stop: asyncio.Event) -> Tally:
        """Run the plan, and show how it goes; once `stop` is set, or it is late, end it early."""
        members = [asyncio.create_task(self._member(at)) for at in range(self._plan.processes)]
        stopping = asyncio.create_task(self._end_early(stop))
        waiting: set[asyncio.Task[None]] = set(members)
        try:
            while waiting:
                _, waiting = await asyncio.wait(waiting, timeout=TICK)
                show(self.tally)
        finally:
            stopping.cancel()
            for process in self._processes:
                with suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(stopping, *members, return_exceptions=True)
        return self.tally

    async def _end_early(self, stop: asyncio.Event) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), WARM_UP + self._plan.most + OVERTIME)
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        await asyncio.sleep(OVERTIME)
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()

    async def _member(self, index: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.ops.loadtest.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE,
            start_new_session=True,
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        share = Share(self._plan, index, self._text, self._begins)
        process.stdin.write(msgspec.json.encode(share) + b"\n")
        told = self._told[index] = Tally()
        async for line in process.stdout:
            told = self._told[index] = msgspec.json.decode(line, type=Tally)
        code = await process.wait()
        if not told.over:
            told.find("client lost", f"process {index + 1} of the load test ended with {code}")
