"""Pictures of curves, bars and matrices, as PNG, in the colours of all pictures (see bev.viz.palette)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bev.viz.palette import CLASS_COLORS, INK, heat_colors
from bev.viz.plots import DASHES, PALETTE, TEXT_PT, code, figure_axes, legend_below, line_color, png

Line = tuple[np.ndarray, np.ndarray]


def _title_color(title: str) -> str:
    """A class's panel is headed in its colour, any other in ink."""
    return code(CLASS_COLORS.get(title.replace(" ", "_"), INK))


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
    figure, axes = figure_axes(rows, columns, 2.5, 2.3, sharex=True, sharey=limits is not None)
    names = list(dict.fromkeys(name for panel in lines.values() for name in panel))
    handles: dict[str, Any] = {}
    for i, (ax, (title, panel)) in enumerate(zip(axes, lines.items())):
        ax.set_title(title.replace("_", " "), fontsize=TEXT_PT, loc="left", color=_title_color(title))
        for name, (x, y) in panel.items():
            k = names.index(name)
            style = DASHES[k // len(PALETTE) % len(DASHES)]
            (handles[name],) = ax.plot(x, y, style, color=line_color(name, k), linewidth=1.8)
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
        legend_below(figure, handles, columns)
    return png(figure)


def dots(groups: Mapping[str, Sequence[tuple[str, Mapping[str, float]]]], x_label: str) -> bytes:
    """One panel a property; in it a row a group, with one dot a measure (NaN is left out)."""
    figure, axes = figure_axes(-(-len(groups) // 2), 2, 5.4, 2.4)
    marks = ("o", "D", "s")
    handles: dict[str, Any] = {}
    for ax, (title, rows) in zip(axes, groups.items()):
        ax.set_title(title, fontsize=TEXT_PT, loc="left", color=code(INK))
        for k, measure in enumerate(dict.fromkeys(name for _, row in rows for name in row)):
            values = [row.get(measure, np.nan) for _, row in rows]
            handles[measure] = ax.plot(values, range(len(rows)), marks[k], color=PALETTE[k], markersize=6)[0]
        ax.set_yticks(range(len(rows)), [name for name, _ in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(-0.02, 1.02)
        ax.set_xlabel(x_label)
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    legend_below(figure, handles, len(handles))
    return png(figure)


def ranges(rows: Mapping[str, tuple[float, float, float]], x_label: str, zero_line: bool = False) -> bytes:
    """A dot with its interval for each name: value, low, high."""
    figure, axes = figure_axes(1, 1, 7.5, 0.9 + 0.27 * len(rows))
    ax = axes[0]
    for i, (name, (value, low, high)) in enumerate(rows.items()):
        ax.plot([low, high], [i, i], color=line_color(name, 0), linewidth=2.4, solid_capstyle="butt")
        ax.plot([value], [i], "o", color=line_color(name, 1), markersize=6)
    if zero_line:
        ax.axvline(0, color=code(INK), linewidth=1)
    ax.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(x_label)
    return png(figure)


def matrix(counts: np.ndarray, row_names: Sequence[str], column_names: Sequence[str], labels: tuple[str, str]) -> bytes:
    """Counts as a picture: shade by the share of the row, the count written into each cell that is not 0."""
    figure, axes = figure_axes(1, 1, 1.6 + 0.68 * len(column_names), 1.4 + 0.48 * len(row_names))
    ax = axes[0]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    ax.grid(False)
    ax.imshow(heat_colors(share), aspect="auto")
    for i, j in zip(*np.nonzero(counts)):
        ink = code(INK) if share[i, j] < 0.6 else "black"
        ax.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=TEXT_PT, color=ink)
    ax.set_xticks(range(len(column_names)), [n.replace("_", " ") for n in column_names], rotation=40, ha="right")
    ax.set_yticks(range(len(row_names)), [n.replace("_", " ") for n in row_names])
    ax.set_ylabel(labels[0])
    ax.set_xlabel(labels[1])
    return png(figure)
