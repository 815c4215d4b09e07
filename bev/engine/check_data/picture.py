"""Histograms of a data set as one picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from bev._optional import require
from bev.data.checks.counts import DISTANCE_EDGES_M, Counts
from bev.viz.palette import class_color


def histograms(counts: Counts, title: str) -> bytes:
    """PNG: boxes by class, by distance and class, and by frame.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = require("matplotlib.figure", extra="viz").Figure(figsize=(14, 4.6), layout="constrained", dpi=110)
    classes, distances, frames = figure.subplots(1, 3, width_ratios=(1.15, 1.4, 1.0))
    figure.suptitle(f"{title}: {counts.frames} frames, {counts.scenes} scenes, {sum(counts.boxes.values())} boxes")
    for ax in (classes, distances, frames):
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        ax.grid(color="#e3e6eb", linewidth=0.8)
    _classes(classes, counts)
    _distances(distances, counts)
    _frames(frames, counts)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _color(name: str, label: int) -> tuple[float, ...]:
    # A little darker than on the dark ground of the other pictures.
    return tuple(0.85 * part / 255 for part in class_color(name, label))


def _classes(ax: Any, counts: Counts) -> None:
    names = list(counts.boxes)[::-1]
    total, empty = (np.array([column[n] for n in names]) for column in (counts.boxes, counts.empty_boxes))
    colors = [_color(n, list(counts.boxes).index(n)) for n in names]
    rows = [n.replace("_", " ") for n in names]
    ax.barh(rows, total, color=colors)
    ax.barh(rows, empty, color="none", edgecolor="#1a1d23", hatch="////", linewidth=0.6)
    for row, (number, blank) in enumerate(zip(total, empty)):
        text = f" {number}" + (f" ({blank} without points)" if blank else "")
        ax.text(number, row, text, va="center", fontsize=8)
    ax.set_xscale("symlog", linthresh=10)
    ax.set_xlim(0, max(10, 12 * total.max(initial=1)))
    ax.set_xlabel("boxes (hatched: without a LiDAR or radar point)")


def _distances(ax: Any, counts: Counts) -> None:
    bottom = np.zeros(len(DISTANCE_EDGES_M))
    for label, (name, row) in enumerate(counts.distances.items()):
        style = {"width": 9.2, "color": _color(name, label), "label": name.replace("_", " ")}
        ax.bar(DISTANCE_EDGES_M + 5, row, bottom=bottom, **style)
        bottom += row
    ax.set_xticks([*DISTANCE_EDGES_M, 110], [*(f"{x:.0f}" for x in DISTANCE_EDGES_M), "more"])
    ax.set_xlabel("distance from the LiDAR [m]")
    ax.set_ylabel("boxes")
    ax.legend(fontsize=7, frameon=False)


def _frames(ax: Any, counts: Counts) -> None:
    most = max(counts.boxes_a_frame, default=0)
    edges = np.arange(0, most + 2, max(1, most // 25)) - 0.5
    ax.hist(counts.boxes_a_frame, bins=[*edges, edges[-1] + max(1, most // 25)], color="#0072B2")
    ax.set_xlabel("boxes a frame")
    ax.set_ylabel("frames")
