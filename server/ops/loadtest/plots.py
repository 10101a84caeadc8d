"""Pictures of a load test, drawn by matplotlib if it is there."""

import io
from typing import Any

from server.ops.loadtest.tally import Tally

BLUE, RED, GREY = "#2563eb", "#dc2626", "#64748b"
DELAYS = ("first_token", "gap", "end_to_end", "reconnect")
CONTROLS = ("pause", "pause_answer", "resume", "abort", "abort_answer")


def plots(tally: Tally) -> dict[str, bytes]:
    """Return PNG images by name; none without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return {}
    made = {
        "throughput": _throughput(Figure(figsize=(9, 3.2), layout="constrained"), tally),
        "delays": _curves(Figure(figsize=(9, 3.2), layout="constrained"), tally, DELAYS),
        "controls": _curves(Figure(figsize=(9, 3.2), layout="constrained"), tally, CONTROLS),
        "load": _load(Figure(figsize=(9, 2.4), layout="constrained"), tally),
    }
    return {name: _png(figure) for name, figure in made.items() if figure is not None}


def _throughput(figure: Any, tally: Tally) -> Any:
    seconds = sorted(tally.seconds)
    if not seconds:
        return None
    axes = figure.subplots()
    axes.set(title="Tokens read, and by how many", xlabel="s", ylabel="tokens/s")
    axes.plot(seconds, [tally.seconds[at].tokens for at in seconds], color=BLUE)
    axes.set_ylim(bottom=0)
    viewers = axes.twinx()
    viewers.plot(seconds, [tally.seconds[at].viewers for at in seconds], color=GREY, linestyle=":")
    viewers.set(ylabel="viewers (dotted)")
    viewers.set_ylim(bottom=0)
    return figure


def _curves(figure: Any, tally: Tally, names: tuple[str, ...]) -> Any:
    curves = {name: tally.spreads[name].curve() for name in names if name in tally.spreads}
    if not curves:
        return None
    axes = figure.subplots()
    for name, points in curves.items():
        axes.step([s * 1000 for s, _ in points], [share for _, share in points], label=name)
    axes.set(title="Share of all that took no longer", xlabel="ms", xscale="log", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _load(figure: Any, tally: Tally) -> Any:
    if not any(tally.cpu.values()):
        return None
    axes = figure.subplots()
    for name, shares in tally.cpu.items():
        axes.plot([at / 2 for at in range(len(shares))], shares, label=name)
    axes.axhline(1.0, color=RED, linewidth=0.8)
    axes.set(title="What the load test itself took", xlabel="s", ylabel="share of a core")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def _png(figure: Any) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
