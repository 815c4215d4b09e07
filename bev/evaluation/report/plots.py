"""Pictures of curves, bars and matrices, as PNG.

Colours are those of Okabe and Ito (2008), which people with any colour vision tell apart; more than eight lines also
differ in their dashes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bev._optional import require

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
DASHES = ("-", "--", ":")

Line = tuple[np.ndarray, np.ndarray]


def _axes(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Any, np.ndarray]:
    """Figure without a window system, and its (rows * columns,) axes; sizes of one axes in inches."""
    figure_module = require("matplotlib.figure", extra="viz")
    figure = figure_module.Figure(figsize=(columns * width, rows * height), layout="constrained", dpi=110)
    axes = np.atleast_1d(figure.subplots(rows, columns, **options)).ravel()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e3e6eb", linewidth=0.8)
        ax.set_axisbelow(True)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def panels(
    lines: Mapping[str, Mapping[str, Line]],
    x_label: str,
    y_label: str,
    columns: int = 5,
    limits: tuple[float, float] | None = (0, 1.02),
) -> bytes:
    """One small panel a name, each with the same few lines (x, y) by name."""
    columns = min(columns, max(len(lines), 2))
    rows = -(-len(lines) // columns)
    figure, axes = _axes(rows, columns, 2.5, 2.3, sharex=True, sharey=limits is not None)
    names = list(dict.fromkeys(name for panel in lines.values() for name in panel))
    handles: dict[str, Any] = {}
    for i, (ax, (title, panel)) in enumerate(zip(axes, lines.items())):
        ax.set_title(title.replace("_", " "), fontsize=10, loc="left")
        for name, (x, y) in panel.items():
            k = names.index(name)
            style = DASHES[k // len(PALETTE) % len(DASHES)]
            (handles[name],) = ax.plot(x, y, style, color=PALETTE[k % len(PALETTE)], linewidth=1.6)
        if i % columns == 0 or limits is None:
            ax.set_ylabel(y_label)
        if i + columns >= len(lines):
            ax.set_xlabel(x_label)
            ax.tick_params(labelbottom=True)
        ax.set_xlim(0, 1)
        ax.set_ylim(limits if limits is not None else (0, None))
    for ax in axes[len(lines) :]:
        ax.set_visible(False)
    if handles:
        labels = [name.replace("_", " ") for name in handles]
        count = min(len(labels), columns)
        figure.legend(handles.values(), labels, loc="outside lower center", ncols=count, frameon=False)
    return _png(figure)


def dots(groups: Mapping[str, Sequence[tuple[str, Mapping[str, float]]]], x_label: str) -> bytes:
    """One panel a property; in it a row a group, with one dot a measure (NaN is left out)."""
    figure, axes = _axes(-(-len(groups) // 2), 2, 5.4, 2.4)
    marks = ("o", "D", "s")
    handles: dict[str, Any] = {}
    for ax, (title, rows) in zip(axes, groups.items()):
        ax.set_title(title, fontsize=10, loc="left")
        for k, measure in enumerate(dict.fromkeys(name for _, row in rows for name in row)):
            values = [row.get(measure, np.nan) for _, row in rows]
            handles[measure] = ax.plot(values, range(len(rows)), marks[k], color=PALETTE[k], markersize=6)[0]
        ax.set_yticks(range(len(rows)), [name for name, _ in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(-0.02, 1.02)
        ax.set_xlabel(x_label)
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return _png(figure)


def ranges(rows: Mapping[str, tuple[float, float, float]], x_label: str, zero_line: bool = False) -> bytes:
    """A dot with its interval for each name: value, low, high."""
    figure, axes = _axes(1, 1, 7.5, 0.9 + 0.27 * len(rows))
    ax = axes[0]
    for i, (value, low, high) in enumerate(rows.values()):
        ax.plot([low, high], [i, i], color=PALETTE[0], linewidth=2.4, solid_capstyle="butt")
        ax.plot([value], [i], "o", color=PALETTE[1], markersize=6)
    if zero_line:
        ax.axvline(0, color="#1a1d23", linewidth=1)
    ax.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(x_label)
    return _png(figure)


def matrix(counts: np.ndarray, row_names: Sequence[str], column_names: Sequence[str], labels: tuple[str, str]) -> bytes:
    """Counts as a picture: shade by the share of the row, the count written into each cell that is not 0."""
    figure, axes = _axes(1, 1, 1.6 + 0.68 * len(column_names), 1.4 + 0.48 * len(row_names))
    ax = axes[0]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    ax.grid(False)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in zip(*np.nonzero(counts)):
        ink = "white" if share[i, j] > 0.6 else "#1a1d23"
        ax.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=ink)
    ax.set_xticks(range(len(column_names)), [n.replace("_", " ") for n in column_names], rotation=40, ha="right")
    ax.set_yticks(range(len(row_names)), [n.replace("_", " ") for n in row_names])
    ax.set_ylabel(labels[0])
    ax.set_xlabel(labels[1])
    return _png(figure)
