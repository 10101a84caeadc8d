"""One process of the load test's clients: `python -m server.ops.loadtest.worker`.

It is told its share in one line on its input, tells its tally in a line twice a second, and ends by
itself: when all is done, when time is up, or when its input is closed.
"""

import asyncio
import os
import random
import sys
import time
from contextlib import suppress

import msgspec

from server.client import Lost, Refused, Report
from server.ops.loadtest import session
from server.ops.loadtest.plan import Plan
from server.ops.loadtest.tally import Tally
from server.ops.loadtest.viewer import World

TICK = 0.5
PATIENCE = 10.0


class Share(msgspec.Struct, frozen=True):
    """The part of process `index`; `text` is what each session says, `begins` is in Unix time."""

    plan: Plan
    index: int
    text: list[str]
    begins: float


def main() -> None:
    """Run a share."""
    share = msgspec.json.decode(sys.stdin.buffer.readline(), type=Share)
    _allow_files()
    try:
        import uvloop
    except ImportError:
        asyncio.run(_work(share))
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(share))


def _allow_files() -> None:
    # A viewer is a file; the usual limit is 1,024 of them.
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _work(share: Share) -> None:
    plan, tally = share.plan, Tally()

    def note(report: Report) -> None:
        if isinstance(report, Refused):
            tally.find(report.what, f"{report.where}: {report.got} after {report.after}")
        elif isinstance(report, Lost):
            tally.add("connections lost")

    async with session.client(plan, PATIENCE, note) as client:
        world = World(plan, share.text, client, tally)
        world.dice = random.Random(f"{plan.seed}/{share.index}")
        await asyncio.sleep(share.begins - time.time())
        world.began = time.monotonic()
        ticking = asyncio.create_task(_tick(world, f"process {share.index + 1}"))
        mine = range(share.index, plan.sessions, plan.processes)
        sessions = [asyncio.create_task(session.run(world, at)) for at in mine]
        stop = asyncio.create_task(_told_to_stop())
        everything = asyncio.gather(*sessions, return_exceptions=True)
        await asyncio.wait((everything, stop), timeout=plan.most, return_when="FIRST_COMPLETED")
        for task in (*sessions, stop):
            task.cancel()
        for outcome in await asyncio.gather(*sessions, return_exceptions=True):
            if isinstance(outcome, Exception):
                tally.find("the load test failed", repr(outcome))
        ticking.cancel()
        await asyncio.gather(ticking, stop, return_exceptions=True)
    tally.over = True
    _tell(tally)


async def _told_to_stop() -> None:
    """Wait until the input is closed: the parent wants no more, or is gone."""
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            closed.set()

    loop.add_reader(sys.stdin.fileno(), look)
    try:
        await closed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())


async def _tick(world: World, name: str) -> None:
    """Tell how it goes, and how hard this process itself works."""
    tally, due = world.tally, time.monotonic()
    before, cpu = due, time.process_time()
    shares = tally.cpu.setdefault(name, [])
    while True:
        due += TICK
        await asyncio.sleep(due - time.monotonic())
        now, used = time.monotonic(), time.process_time()
        tally.spread("lag").add(now - due)
        shares.append(round((used - cpu) / (now - before), 3))
        before, cpu = now, used
        tally.second(now - world.began).viewers = world.viewers
        _tell(tally)


def _tell(tally: Tally) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(tally) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
