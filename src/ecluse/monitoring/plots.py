"""Plots as SVG text: bars of shares before and now, and a line over windows. No library, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ecluse.monitoring.bars import Bars

WIDTH, HEIGHT, FOOT = 300, 96, 16


def bars_svg(bars: Bars, title: str) -> str:
    """Filled bars are the window, outlined ones the reference; the highest of all fills the height.

    >>> bars_svg(Bars(("a", "b"), (0.5, 0.5), (1.0, 0.0)), "plan").count("<rect")
    4
    """
    top = max([*bars.reference, *bars.window, 1e-9])
    step = WIDTH / max(len(bars.labels), 1)
    parts = []
    for place, (label, before, now) in enumerate(zip(bars.labels, bars.reference, bars.window, strict=True)):
        x, tip = place * step, f"{label}: {before:.1%} before, {now:.1%} now"
        tall, was = HEIGHT * now / top, HEIGHT * before / top
        gap = min(3.0, step * 0.12)
        parts.append(f"<g><title>{escape(tip)}</title>")
        parts.append(_rect("now", x + gap, HEIGHT - tall, step - 2 * gap, tall))
        parts.append(_rect("was", x + gap, HEIGHT - was, step - 2 * gap, was) + "</g>")
    parts += _labels(bars.labels, step)
    return _svg(f"{title}: shares before and now", "".join(parts))


def _labels(labels: Sequence[str], step: float) -> list[str]:
    """Every label where there is room for it, else the first, the middle and the last."""
    fits = all(len(label) * 6.2 < step for label in labels)
    places = range(len(labels)) if fits else sorted({0, len(labels) // 2, len(labels) - 1})
    found = []
    for place in places:
        middle = (place + 0.5) * step
        anchor = (
            "start" if middle < WIDTH * 0.2 and not fits else "end" if middle > WIDTH * 0.8 and not fits else "middle"
        )
        x = {"start": 0.0, "end": float(WIDTH)}.get(anchor, middle)
        text = labels[place] if len(labels[place]) < 18 else labels[place][:16] + "…"
        found.append(f'<text x="{x:.1f}" y="{HEIGHT + FOOT - 3}" text-anchor="{anchor}">{escape(text)}</text>')
    return found


def line_svg(values: Sequence[float | None], title: str, *, limit: float | None = None) -> str:
    """A line over windows, oldest left, from 0 (or the least) to the greatest; the limit dashed. None breaks nothing: it is left out.

    >>> line_svg([0.1, None, 0.3], "PSI", limit=0.25).count("<circle")
    2
    """
    points = [(place, value) for place, value in enumerate(values) if value is not None]
    known = [value for _, value in points] + ([] if limit is None else [limit])
    low, high = min([0.0, *known]), max([*known, 1e-9])
    span = (high - low) * 1.1 or 1.0
    steps = max(len(values) - 1, 1)

    def at(place: int, value: float) -> tuple[float, float]:
        return 6 + place / steps * (WIDTH - 12), HEIGHT - 4 - (value - low) / span * (HEIGHT - 10)

    spots = [at(place, value) for place, value in points]
    parts = []
    if limit is not None:
        y = at(0, limit)[1]
        parts.append(f'<line class="limit" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{WIDTH}" y="{max(y - 3, 9):.1f}" text-anchor="end">limit {limit:g}</text>')
    parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>')
    for (x, y), (_, value) in zip(spots, points, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{value:.4g}</title></circle>')
    parts.append(f'<text x="0" y="{HEIGHT + FOOT - 3}">oldest</text>')
    parts.append(f'<text x="{WIDTH}" y="{HEIGHT + FOOT - 3}" text-anchor="end">this window</text>')
    return _svg(title, "".join(parts))


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{max(height, 0.0):.1f}"/>'
    )


def _svg(title: str, inside: str) -> str:
    box = f'viewBox="0 -2 {WIDTH} {HEIGHT + FOOT + 2}"'
    return f'<svg {box} role="img" aria-label="{escape(title, quote=True)}">{inside}</svg>'
