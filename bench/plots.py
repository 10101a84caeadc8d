"""Bar charts as plain SVG (pure)."""

from collections.abc import Mapping, Sequence
from html import escape

ROW, LEFT, BAR, TOP = 26, 110, 420, 44
WIDTH = LEFT + BAR + 150
COLOURS = {"tokenwire": "#2563eb"}
OTHER = "#94a3b8"


def _row(index: int, name: str, value: float, most: float, low: float, high: float) -> str:
    y = TOP + index * ROW
    middle = y + ROW / 2
    width = BAR * value / most
    left, right = (LEFT + BAR * end / most for end in (low, high))
    return (
        f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{LEFT}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}" '
        f'fill="{COLOURS.get(name, OTHER)}"/>'
        f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}" stroke="#0f172a"/>'
        f'<text x="{max(LEFT + width, right) + 8:.1f}" y="{middle + 4}">{value:,.4g}</text>'
    )


def bars(title: str, unit: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Draw a bar for each row of (median, least, most), the spread as a line."""
    most = max((high for _, _, high in rows.values()), default=0) or 1
    drawn = [
        _row(index, name, middle, most, low, high)
        for index, (name, (middle, low, high)) in enumerate(rows.items())
    ]
    height = TOP + ROW * len(rows) + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13" fill="#0f172a">'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
        f'<text x="12" y="24" font-size="15">{escape(title)} '
        f'<tspan fill="#64748b">({escape(unit)})</tspan></text>{"".join(drawn)}</svg>\n'
    )
