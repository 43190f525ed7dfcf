"""Plots as PNG bytes, drawn without a display; the only importer of ``matplotlib``. The same numbers give the same bytes."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

Line = tuple[str, Sequence[float], Sequence[float]]


def can_plot() -> bool:
    """Whether matplotlib is installed (``pip install 'ecluse[plots]'``); without it artifacts are numbers only."""
    return importlib.util.find_spec("matplotlib") is not None


def curve(title: str, x_label: str, y_label: str, lines: Sequence[Line], *, diagonal: bool = False) -> bytes:
    """Lines (label, x, y), with the diagonal of chance or perfection when asked for."""
    figure = _figure()
    axes = figure.subplots()
    for label, x, y in lines:
        axes.plot(x, y, marker="." if len(x) < 30 else "", label=label)
    if diagonal:
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.legend()
    return _png(figure)


def matrix(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> bytes:
    """A confusion matrix: rows are the truth, columns the decision."""
    figure = _figure()
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    for i, row in enumerate(counts):
        for j, value in enumerate(row):
            axes.text(
                j,
                i,
                f"{value:,}",
                ha="center",
                va="center",
                color="black",
                bbox={"facecolor": "white", "alpha": 0.7, "lw": 0},
            )
    axes.set(title=title, xlabel="decision", ylabel="truth")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    return _png(figure)


def bars(title: str, x_label: str, values: Mapping[str, float], *, most: int = 25) -> bytes:
    """The largest of named values, largest first."""
    shown = sorted(values.items(), key=lambda item: -abs(item[1]))[:most][::-1]
    figure = _figure(height=1.5 + 0.25 * len(shown))
    axes = figure.subplots()
    axes.barh([name for name, _ in shown], [value for _, value in shown])
    axes.set(title=title, xlabel=x_label)
    return _png(figure)


def points(title: str, x_label: str, y_label: str, x: Sequence[float], y: Sequence[float]) -> bytes:
    """A scatter of y over x, with the diagonal."""
    figure = _figure()
    axes = figure.subplots()
    axes.scatter(x, y, s=8, alpha=0.5)
    low, high = min((*x, *y)), max((*x, *y))
    axes.plot([low, high], [low, high], linestyle=":", color="grey")
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    return _png(figure)


def _figure(height: float = 4.5) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: no global state, safe in threads
    return figure


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
