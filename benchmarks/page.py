"""Owns what a run writes into the docs: tables between the page's marks, and the plot of growth. Nothing else is touched."""

from __future__ import annotations

from pathlib import Path

PLOT_COLUMNS = 3
MOST_WORDS = 6
"""A line of more points has every other one named."""
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 220, 120, 46, 30, 56


def fill(page: Path, name: str, text: str) -> bool:
    """Put text between the page's marks for `name`; whether it has them. All else stays as it is."""
    content = page.read_text()
    start, end = f"<!-- measured: {name} -->", "<!-- end -->"
    head, found, rest = content.partition(start)
    if not found or end not in rest:
        return False
    page.write_text(f"{head}{start}\n\n{text}\n\n{end}{rest.partition(end)[2]}")
    return True


def plot(points: dict[str, list[tuple[float, float]]]) -> str:
    """Small multiples of cost against size, each from zero on a scale of its own, as SVG."""
    columns, rows = min(PLOT_COLUMNS, len(points)), -(-len(points) // PLOT_COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * (_WIDTH + _LEFT + 20)} '
        f'{rows * (_TOP + _HEIGHT + _GAP)}" font-family="sans-serif" font-size="11">'
        '<rect width="100%" height="100%" fill="white"/>'
    ]
    for i, (name, found) in enumerate(points.items()):
        most = max(y for _, y in found) * 1.25
        x0 = (i % PLOT_COLUMNS) * (_WIDTH + _LEFT + 20) + _LEFT
        y0 = (i // PLOT_COLUMNS) * (_TOP + _HEIGHT + _GAP) + _TOP
        at = [(x0 + _WIDTH * (j + 0.5) / len(found), y0 + _HEIGHT * (1 - y / most)) for j, (_, y) in enumerate(found)]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in at)
        parts.append(f'<text x="{x0}" y="{y0 - 12}" font-weight="bold">us a message by {name}</text>')
        parts.append(f'<path d="M{x0} {y0}V{y0 + _HEIGHT}H{x0 + _WIDTH}" fill="none" stroke="#888"/>')
        parts += [
            f'<text x="{x0 - 6}" y="{y0 + _HEIGHT * (1 - k / 4) + 4:.0f}" text-anchor="end">{most * k / 4:.1f}</text>'
            for k in range(5)
        ]
        parts.append(f'<polyline points="{line}" fill="none" stroke="#1f77b4" stroke-width="2"/>')
        for j, ((x, y), (size, cost)) in enumerate(zip(at, found, strict=True)):
            parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="#1f77b4"/>')
            if j % 2 and len(found) > MOST_WORDS:
                continue  # no room
            parts.append(f'<text x="{x:.0f}" y="{y - 7:.0f}" text-anchor="middle">{cost:.1f}</text>')
            parts.append(f'<text x="{x:.0f}" y="{y0 + _HEIGHT + 16}" text-anchor="middle">{short(size)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def short(size: float) -> str:
    """`60k` for 60,000."""
    return f"{size / 1000:g}k" if size >= 10_000 else f"{size:g}"
