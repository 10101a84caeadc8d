"""From results to a table, a page and its plots."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.plots import bars
from bench.results import GOALS, Figure, Results, figure, judge
from bench.sizes import Sizes
from bench.targets import TARGETS
from bench.works import Case, cases

# metric -> heading, format
COLUMNS = {
    "cpu_us": ("server CPU µs/token", ".2f"),
    "server_share": ("server core", ".0%"),
    "redis_us": ("Redis CPU µs/token", ".2f"),
    "redis_bytes": ("Redis B/token", ".0f"),
    "redis_received": ("to Redis B/token", ".0f"),
    "tok_s": ("tokens/s", ",.0f"),
    "sessions_10": ("sessions, p99 ≤ 10 ms", ",.0f"),
    "sessions_50": ("sessions, p99 ≤ 50 ms", ",.0f"),
    "p50_ms": ("p50 ms", ".3g"),
    "p99_ms": ("p99 ms", ".3g"),
    "max_ms": ("most ms", ".3g"),
    "ttft_ms": ("first token ms", ".3g"),
    "lost": ("lost", ",.0f"),
    "gaps": ("gaps", ",.0f"),
    "connects_s": ("connects/s", ",.0f"),
    **{f"bytes_{n}": (f"B/viewer at {n:,}", ",.0f") for n in (1_000, 5_000, 10_000)},
    "held": ("viewers held", ",.0f"),
    **{f"ms_{n}": (f"{n:,} clients, ms", ",.3g") for n in (1, 100, 1_000)},
    **{f"wrong_{n}": (f"{n:,}: not whole", ",.0f") for n in (1, 100, 1_000)},
    **{f"load_share_{n}": (f"{n:,}: load generator", ".0%") for n in (1, 100, 1_000)},
    "open": ("sessions open", ",.0f"),
    "late_ms": ("upstream late, ms", ".2g"),
    "stalls": ("upstream stalled", ",.0f"),
    "load_share": ("load generator", ".0%"),
    "other_core": ("all beside the server", ".0%"),
    "foreign": ("other programs, cores", ".2f"),
}
PLOTS = (
    ("W1", "load", "cpu_us", "Server CPU a token, 200 sessions", "µs"),
    ("W1", "most", "sessions_50", "Sessions at p99 ≤ 50 ms on one core", "sessions"),
    ("W2", "sse-1000", "cpu_us", "Server CPU a delivery, 1,000 SSE viewers", "µs"),
    ("W2", "sse-10000", "tok_s", "Deliveries a second, 10,000 SSE viewers", "1/s"),
    ("W3", "one", "ttft_ms", "Time to first token, unloaded", "ms"),
    ("W5", "hot", "ms_1000", "A log of 10,000 tokens to 1,000 clients", "ms"),
)


def _cell(found: Figure | None, shape: str) -> str:
    if found is None:
        return "–"
    middle = format(found.middle, shape)
    if found.rounds == 1 or found.low == found.high:
        return middle
    return f"{middle} [{format(found.low, shape)}–{format(found.high, shape)}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def case_table(results: Results, work: str, case: Case) -> list[str]:
    """One case: a row for each target that ran."""
    found = results.rounds.get((work, case.key), {})
    metrics = [m for m in COLUMNS if any(m in one for r in found.values() for one in r.values())]
    head = ["", *(COLUMNS[metric][0] for metric in metrics)]
    rows = [
        [name, *(_figure(results, work, case.key, name, metric) for metric in metrics)]
        for name in (target.name for target in TARGETS)
        if name in found
    ]
    failed = [
        f"- {target}: {why}"
        for (w, key, target), why in results.failures.items()
        if (w, key) == (work, case.key)
    ]
    if not rows and not failed:
        return []
    return [f"### {work}: {case.title}", "", *_table(head, rows), "", *failed, ""]


def _figure(results: Results, work: str, case: str, name: str, metric: str) -> str:
    return _cell(figure(results.values(work, case, name, metric)), COLUMNS[metric][1])


def goal_table(results: Results) -> list[str]:
    """Every goal: met, not met, or not measured if this run lacks one of its figures."""
    rows = []
    for goal in GOALS:
        found, met = judge(goal, results)
        verdict = ("pass" if met else "**fail**") if found else "not measured"
        rows.append([goal.text, f"{goal.sign} {goal.limit:.3g}", _cell(found, ".3g"), verdict])
    return _table(["goal", "limit", "measured", ""], rows)


def page(results: Results, sizes: Sizes, about: dict[str, str]) -> str:
    """Write the whole page."""
    lines = [
        "# Results",
        "",
        "Made by `make bench`; medians with [least–greatest] over the rounds. A ratio is taken",
        "round by round. Delays are from the upstream's send to the client's read. `direct` is the",
        "load generator on the bare upstream, which then has the server's core. A figure of a row",
        "in which *all beside the server* is near 100 % is bounded by the load, not the server; one",
        "with *other programs* well above zero was disturbed, and is not to be quoted.",
        "",
        *_table(["", ""], [[name, value] for name, value in about.items()]),
        "",
        "## Goals",
        "",
        *goal_table(results),
        "",
        "## Works",
        "",
    ]
    for work, those in cases(sizes).items():
        for case in those:
            lines += case_table(results, work, case)
    shown = [f"![{title}](plots/{name})" for name, title, _ in plots(results)]
    peers = [[target.name, target.note] for target in TARGETS]
    return "\n".join([*lines, *shown, "", "## Who is who", "", *_table(["", ""], peers), ""])


def plots(results: Results) -> list[tuple[str, str, str]]:
    """Draw what this run has figures for: name of file, title, SVG."""
    drawn = []
    for work, case, metric, title, unit in PLOTS:
        found = {
            target.name: figure(results.values(work, case, target.name, metric)) for target in TARGETS
        }
        rows = {name: one[:3] for name, one in found.items() if one}
        if rows:
            drawn.append((f"{work}-{case}-{metric}.svg", title, bars(title, unit, rows)))
    return drawn


def write(folder: Path, results: Results, sizes: Sizes, about: dict[str, str]) -> Path:
    """Write `RESULTS.md` and its plots into a folder."""
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for name, _, svg in plots(results):
        (folder / "plots" / name).write_text(svg)
    path = folder / "RESULTS.md"
    path.write_text(page(results, sizes, about))
    return path
