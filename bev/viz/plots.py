"""The look of plots, which is that of the pictures: their colours on their page, text that can be read at half size."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bev._optional import require
from bev.io import FileError
from bev.viz.palette import CLASS_COLORS, GRID, INK, MUTED_INK, PAGE, SERIES, Color

# 10 points are 22 px at this resolution, so 11 px where the plot is shown at half its size.
DPI = 160
TEXT_PT = 10
DASHES = ("-", "--", ":")


def code(color: Color) -> str:
    """A colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


PALETTE = tuple(code(color) for color in SERIES)


def line_color(name: str, number: int) -> str:
    """Colour of a line: its class's where it is named after one (``car``, ``AP/car``), else that of its number."""
    key = name.rpartition("/")[2].replace(" ", "_")
    return code(CLASS_COLORS[key]) if key in CLASS_COLORS else PALETTE[number % len(PALETTE)]


def figure_axes(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Any, np.ndarray]:
    """Figure without a window system, and its (rows * columns,) axes.

    Args:
        width, height: of one axes, inches.
        options: of ``Figure.subplots``.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure", extra="viz")
    figure = figure_module.Figure(
        figsize=(columns * width, rows * height), layout="constrained", dpi=DPI, facecolor=code(PAGE)
    )
    axes = np.atleast_1d(figure.subplots(rows, columns, **options)).ravel()
    for ax in axes:
        _dress(ax)
    return figure, axes


def _dress(ax: Any) -> None:
    ax.set_facecolor(code(PAGE))
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(code(MUTED_INK))
    ax.tick_params(which="both", colors=code(MUTED_INK), labelcolor=code(INK), labelsize=TEXT_PT)
    for label in (ax.xaxis.label, ax.yaxis.label, ax.title, ax._left_title):
        label.set_color(code(INK))
        label.set_fontsize(TEXT_PT)
    ax.grid(color=code(GRID), linewidth=0.8)
    ax.set_axisbelow(True)


def legend_below(figure: Any, handles: Mapping[str, Any], columns: int) -> None:
    """Names of the lines in one block below all axes."""
    names = [name.replace("_", " ") for name in handles]
    figure.legend(
        handles.values(),
        names,
        loc="outside lower center",
        ncols=max(min(len(names), columns), 1),
        frameon=False,
        labelcolor=code(INK),
        fontsize=TEXT_PT,
    )


def png(figure: Any) -> bytes:
    """The figure, encoded."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def training_curves(scalars: str | Path) -> bytes:
    """Losses, learning rate, gradients and scores over the steps of a run, as a PNG.

    Args:
        scalars: the run's ``scalars.jsonl``.

    Raises:
        FileError: it cannot be read, or has no line of training.
        ImportError: matplotlib is not installed.
    """
    rows = _rows(Path(scalars))
    trained = [row for row in rows if row.get("mode") == "train"]
    if not trained:
        raise FileError(f"{scalars}: no line of training to plot")
    validated = [row for row in rows if row.get("mode") == "val"]
    scores = [name for name in ("mAP", "NDS") if any(name in row for row in validated)]
    losses = [n for n in dict.fromkeys(n for row in trained for n in row) if "loss" in n]
    panels = {
        "losses": (trained, losses, "log"),
        "learning rate": (trained, ["lr"], "linear"),
        "gradient norm": (trained, ["grad_norm"], "log"),
    }
    panels |= {"validation": (validated, scores, "linear")} if scores else {}
    figure, axes = figure_axes(-(-len(panels) // 2), 2, 5.2, 3.4)
    handles: dict[str, Any] = {}
    for ax, (title, (source, names, scale)) in zip(axes, panels.items()):
        _lines(ax, source, names, handles)
        ax.set_title(title, loc="left", fontsize=TEXT_PT + 1, color=code(INK))
        ax.set_yscale(scale)
        ax.set_xlabel("step")
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    legend_below(figure, handles, 3)
    return png(figure)


def _lines(ax: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str], handles: dict[str, Any]) -> None:
    for name in names:
        points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float))]
        number = len(handles)
        dash = DASHES[number // len(PALETTE) % len(DASHES)]
        marker = "o" if len(points) < 30 else ""
        # A line needs (0, 2) points even where a run has none of them yet.
        x, y = np.array(points, float).reshape(-1, 2).T
        (handles[name],) = ax.plot(x, y, dash, color=line_color(name, number), linewidth=1.7, marker=marker)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise FileError(f"{path}: cannot read the scalars: {error.strerror or error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):  # a run that is being written, or was killed
                break
            raise FileError(f"{path}, line {number}: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise FileError(f"{path}, line {number}: expected an object with a 'step'")
        rows.append(row)
    return rows
