"""How a load test goes, while it goes: a live table with rich, plain lines without."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from server.ops.loadtest.plan import Plan
from server.ops.loadtest.tally import Tally
from server.ops.loadtest.verdict import QUANTILES, rows

EVERY = 5.0
Show = Callable[[Tally], None]


@contextmanager
def screen(plan: Plan, out: TextIO) -> Iterator[Show]:
    """Yield what to call with each new tally."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        yield _lines(plan, out)
        return
    console = Console(file=out)
    if not console.is_terminal:
        yield _lines(plan, out)
        return
    began = time.monotonic()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield lambda tally: live.update(_table(line(plan, tally, time.monotonic() - began), tally))


def line(plan: Plan, tally: Tally, seconds: float) -> str:
    """Say in one line where it stands."""
    last = tally.seconds.get(max(tally.seconds, default=0) - 1)
    wrong = f"{tally.wrong:,} findings" if tally.wrong else "nothing wrong"
    return (
        f"{seconds:4.0f} s of {plan.most:.0f} at most   sessions {tally.count('sessions'):,}   "
        f"viewers {last.viewers if last else 0:,}   tokens {tally.count('tokens'):,} "
        f"({last.tokens if last else 0:,}/s)   {wrong}"
    )


def _lines(plan: Plan, out: TextIO) -> Show:
    began = shown = time.monotonic()

    def show(tally: Tally) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= EVERY:
            shown = now
            print(line(plan, tally, now - began), file=out, flush=True)

    return show


def _table(title: str, tally: Tally) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("ms")
    for name in ("count", *QUANTILES, "most"):
        table.add_column(name, justify="right")
    for row in rows(tally):
        cells = [f"{value:,.1f}" for value in (*row.quantiles.values(), row.most)]
        table.add_row(row.name, f"{row.count:,}", *cells)
    for name, shares in tally.cpu.items():
        table.add_row(f"{name}: CPU", "", f"{shares[-1]:.0%}" if shares else "")
    return table
