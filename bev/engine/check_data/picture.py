"""Histograms of a data set as one picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from bev.data.checks.counts import DISTANCE_EDGES_M, Counts
from bev.viz.palette import INK
from bev.viz.plots import PALETTE, TEXT_PT, code, figure_axes, legend_below, line_color, png


def histograms(counts: Counts, title: str) -> bytes:
    """PNG: boxes by class, by distance and class, and by frame.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, (classes, distances, frames) = figure_axes(1, 3, 5.2, 4.6, width_ratios=(1.15, 1.4, 1.0))
    title = f"{title}: {counts.frames} frames, {counts.scenes} scenes, {sum(counts.boxes.values())} boxes"
    figure.suptitle(title, color=code(INK), fontsize=TEXT_PT + 2)
    _classes(classes, counts)
    legend_below(figure, _distances(distances, counts), 5)
    _frames(frames, counts)
    return png(figure)


def _classes(ax: Any, counts: Counts) -> None:
    names = list(counts.boxes)[::-1]
    total, empty = (np.array([column[n] for n in names]) for column in (counts.boxes, counts.empty_boxes))
    colors = [line_color(n, list(counts.boxes).index(n)) for n in names]
    rows = [n.replace("_", " ") for n in names]
    ax.barh(rows, total, color=colors)
    ax.barh(rows, empty, color="none", edgecolor=code(INK), hatch="////", linewidth=0.6)
    for row, (number, blank) in enumerate(zip(total, empty)):
        text = f" {number}" + (f" ({blank} without points)" if blank else "")
        ax.text(number, row, text, va="center", fontsize=TEXT_PT, color=code(INK))
    ax.set_xscale("symlog", linthresh=10)
    ax.set_xlim(0, max(10, 60 * total.max(initial=1)))
    ax.set_xlabel("boxes (hatched: without a LiDAR or radar point)")


def _distances(ax: Any, counts: Counts) -> dict[str, Any]:
    """Bars by name, for the legend."""
    handles: dict[str, Any] = {}
    bottom = np.zeros(len(DISTANCE_EDGES_M))
    for label, (name, row) in enumerate(counts.distances.items()):
        handles[name] = ax.bar(DISTANCE_EDGES_M + 5, row, bottom=bottom, width=9.2, color=line_color(name, label))
        bottom += row
    ax.set_xticks([*DISTANCE_EDGES_M, 110], [*(f"{x:.0f}" for x in DISTANCE_EDGES_M), "more"])
    ax.set_xlabel("distance from the LiDAR [m]")
    ax.set_ylabel("boxes")
    return handles


def _frames(ax: Any, counts: Counts) -> None:
    most = max(counts.boxes_a_frame, default=0)
    edges = np.arange(0, most + 2, max(1, most // 25)) - 0.5
    ax.hist(counts.boxes_a_frame, bins=[*edges, edges[-1] + max(1, most // 25)], color=PALETTE[0])
    ax.set_xlabel("boxes a frame")
    ax.set_ylabel("frames")
