"""A load test's report: `report.json`, PNG plots, and `report.html`, which needs no other file."""

import base64
import os
import platform
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from server.ops.loadtest.plan import Plan
from server.ops.loadtest.plots import plots
from server.ops.loadtest.tally import MEASURES, Tally
from server.ops.loadtest.verdict import QUANTILES, Row, Verdict, own_share, rows

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #15803d; --bad: #b91c1c }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } .good { color: var(--good) } .bad { color: var(--bad) }
@media (prefers-color-scheme: dark) { :root { --good: #4ade80; --bad: #f87171 } }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left } small { opacity: .75 }
img { max-width: 100%; background: #fff; border-radius: .5rem; margin: .5rem 0 }
"""


def facts(plan: Plan, tally: Tally, verdict: Verdict) -> dict[str, Any]:
    """Return all there is to know, as plain data."""
    cores = os.cpu_count() or 1
    return {
        "verdict": msgspec.to_builtins(verdict),
        "plan": msgspec.to_builtins(plan) | {"tokens": plan.tokens},
        "counts": tally.counts,
        "milliseconds": {row.name: msgspec.to_builtins(row) for row in rows(tally)},
        "findings": msgspec.to_builtins(tally.findings),
        "seconds": {at: msgspec.to_builtins(second) for at, second in sorted(tally.seconds.items())},
        "load": {"cpu": tally.cpu, "share_of_machine": round(own_share(tally, cores), 3)},
        "machine": {
            "cores": cores,
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    }


def write(folder: Path, plan: Plan, tally: Tally, verdict: Verdict) -> list[Path]:
    """Write the report; return its files. Without matplotlib it has no plots."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = plots(tally)
    told = facts(plan, tally, verdict)
    files = {f"{name}.png": image for name, image in drawn.items()}
    files["report.json"] = msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"
    files["report.html"] = page(plan, tally, verdict, drawn).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def page(plan: Plan, tally: Tally, verdict: Verdict, drawn: Mapping[str, bytes]) -> str:
    """Return the whole report as one page."""
    bottleneck = f"<p><b>{escape(verdict.bottleneck)}</b></p>" if verdict.bottleneck else ""
    images = "".join(
        f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(image).decode()}">'
        for name, image in drawn.items()
    )
    given = [(name, str(value)) for name, value in msgspec.to_builtins(plan).items()]
    counted = [(name, f"{n:,}") for name, n in tally.counts.items()]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Load test</title>'
        f"<style>{_STYLE}</style><h1>Load test of {escape(plan.url)}</h1>"
        f'<p class="{"good" if verdict.complete else "bad"}">{escape(verdict.words)}.</p>{bottleneck}'
        f"{_found(tally)}<h2>Times, in milliseconds</h2>{_times(tally)}{images}"
        f"<h2>Counted</h2>{_pairs(counted)}<h2>The plan</h2>{_pairs(given)}</html>\n"
    )


def _found(tally: Tally) -> str:
    if not tally.findings:
        return ""
    items = [
        f"<h3>{escape(what)}: {found.count:,}</h3><ul>"
        + "".join(f"<li>{escape(example)}</li>" for example in found.examples)
        + "</ul>"
        for what, found in tally.findings.items()
    ]
    return f"<h2>Found</h2>{''.join(items)}"


def _times(tally: Tally) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in ("", "count", *QUANTILES, "most"))
    return f"<table><tr>{heads}</tr>{''.join(map(_row, rows(tally)))}</table>"


def _row(row: Row) -> str:
    values = (f"{row.count:,}", *(f"{ms:,.1f}" for ms in (*row.quantiles.values(), row.most)))
    cells = "".join(f"<td>{value}</td>" for value in values)
    return f"<tr><td>{row.name}<br><small>{escape(MEASURES[row.name])}</small></td>{cells}</tr>"


def _pairs(pairs: list[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in pairs)
    return f"<table>{lines}</table>"
