"""`run.py loadtest URL`: load a server, tell how it goes, write a report, and give a verdict."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from server.client import BrokenStream, Report
from server.ops.loadtest import report, session
from server.ops.loadtest.crew import Crew
from server.ops.loadtest.plan import Flags, parse
from server.ops.loadtest.screen import screen
from server.ops.loadtest.tally import Tally
from server.ops.loadtest.verdict import QUANTILES, rows, verdict

PATIENCE = 2.0


def _ignore(_: Report) -> None:
    """Say nothing of single connections: the one line at the end will."""


def main(argv: Sequence[str]) -> int:
    """Run it; return 0 for `complete`, 1 for `incomplete`. Raise `SettingsError` for a bad flag."""
    return asyncio.run(_run(parse(argv)))


async def _run(flags: Flags) -> int:
    plan = flags.plan
    try:
        async with asyncio.timeout(plan.most), session.client(plan, PATIENCE, _ignore) as client:
            text = await session.reference(client, plan)
    except (*session.FAILED, BrokenStream, TimeoutError) as error:
        why = str(error) or "it does not end"
        print(f"tokenwire: loadtest: the first session cannot be read: {why}", file=sys.stderr)
        return 1
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows: Ctrl-C cancels this task instead
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with screen(plan, sys.stdout) as show:
        tally = await Crew(plan, text).run(show, stop)
    if len(text) != plan.tokens:
        tally.find("tokens lost", f"the first session said {len(text)} of {plan.tokens} tokens")
    found = verdict(plan, tally, os.cpu_count() or 1)
    files = await asyncio.to_thread(report.write, flags.out, plan, tally, found)
    _print(tally)
    if not any(file.suffix == ".png" for file in files):
        print("no plots: they need pip install 'tokenwire[loadtest]'")
    print(f"report: {flags.out / 'report.html'}")
    if found.bottleneck:
        print(found.bottleneck)
    print(found.words, flush=True)
    return 0 if found.complete else 1


def _print(tally: Tally) -> None:
    print("".join(f"{name:>12}" for name in ("ms", "count", *QUANTILES, "most")))
    for row in rows(tally):
        values = "".join(f"{ms:12,.1f}" for ms in (*row.quantiles.values(), row.most))
        print(f"{row.name:>12}{row.count:12,}{values}")
