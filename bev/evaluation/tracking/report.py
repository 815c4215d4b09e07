"""Tracking scores as a table to read and as a report page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from bev.evaluation.report import Picture, Section, Table, write_report
from bev.evaluation.report.page import Cell, cell
from bev.evaluation.report.plots import panels
from bev.evaluation.tracking.evaluate import COUNTS, TrackingEvaluation

COLUMNS = ("AMOTA", "AMOTP", "MOTA", "MOTP", "RECALL", "GT", "TP", "FP", "FN", "IDS", "FRAG", "MT", "ML", "TID", "LGD")
# Those that fit into a narrow terminal; the file of scores has them all.
_NARROW, _WIDE_TERMINAL = ("AMOTA", "AMOTP", "MOTA", "RECALL", "TP", "FP", "FN", "IDS", "FRAG"), 110
_WHOLE = ("GT", *(name.upper() for name in COUNTS))
# Each with the axis it is drawn on: shares between 0 and 1, metres, counts.
_DRAWN = {
    "shares": (("motar", "mota", "recall"), "share", (0.0, 1.02)),
    "distance": (("motp",), "m", None),
    "counts": (("fp", "fn", "ids", "frag"), "boxes", None),
}
_TEXT = (
    "AMOTA and AMOTP [m] are means over 40 recall thresholds; the other numbers are those at the threshold with the "
    "best MOTA. GT, TP, FP, FN, IDS (identity switches) and FRAG (fragmentations) count boxes, MT and ML mostly "
    "tracked and mostly lost objects; TID (time to first detection) and LGD (longest gap) are in seconds. In the last "
    "row counts are sums over the classes, the others means. A dash: nothing to score."
)


def _cells(row: Mapping[str, float], columns: Sequence[str]) -> list[Cell]:
    """Counts as whole numbers."""
    return [int(row[name]) if name in _WHOLE and not math.isnan(row[name]) else float(row[name]) for name in columns]


def _rows(done: TrackingEvaluation, columns: Sequence[str]) -> list[list[Cell]]:
    """A row for each class, and one for all of them; in it the devkit's GT is a mean, which no one can read."""
    classes = done.scores["classes"]
    total = {**done.scores, "GT": np.nansum([row["GT"] for row in classes.values()])}
    return [[name, *_cells(row, columns)] for name, row in (*classes.items(), ("all", total))]


def print_tracking_scores(done: TrackingEvaluation) -> None:
    """Print the table to standard output, in a narrow terminal without its rarer columns."""
    scores, console = done.scores, Console(width=None)
    columns = COLUMNS if console.width >= _WIDE_TERMINAL else _NARROW
    title = f"AMOTA {scores['AMOTA']:.4f}   AMOTP {scores['AMOTP']:.4f} m   ({scores['scenes']} scenes)"
    table = RichTable(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("class")
    for column in columns:
        table.add_column(column, justify="right")
    for row in _rows(done, columns):
        if row[0] == "all":
            table.add_section()
        table.add_row(*map(cell, row))
    console.print(table)


def write_tracking_report(folder: str | Path, done: TrackingEvaluation, title: str = "nuScenes tracking") -> Path:
    """Write ``report.html`` (self-contained) and ``report.md`` with its pictures; returns the page's path.

    Raises:
        ImportError: matplotlib is not installed.
    """
    scores = done.scores
    text = f"{scores['samples']} samples of {scores['scenes']} scenes. {_TEXT}"
    table = Table("", ["class", *COLUMNS], _rows(done, COLUMNS))
    return write_report(folder, title, [Section("Scores", text, [table]), _curves(done)])


def _curves(done: TrackingEvaluation) -> Section:
    pictures = []
    for name, (metrics, unit, limits) in _DRAWN.items():
        lines = {}
        for label, curves in done.curves.items():
            reached = ~np.isnan(curves["confidence"])
            if reached.any():
                lines[label] = {m.upper(): (done.recall[reached], curves[m][reached]) for m in metrics}
        if lines:
            what = ", ".join(metric.upper() for metric in metrics)
            data = panels(lines, "recall threshold", unit, columns=4, limits=limits)
            pictures.append(Picture(f"tracking_{name}.png", f"{what} at each recall threshold.", data))
    return Section("Against recall", "" if pictures else "No class has a match.", (), pictures)
