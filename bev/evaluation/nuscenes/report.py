"""Scores as a table to read and a file to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bev.evaluation.nuscenes.bootstrap import Interval, verdict
from bev.io.json_files import write_json

COLUMNS = ("AP", "ATE", "ASE", "AOE", "AVE", "AAE")


def score_table(scores: dict[str, Any]) -> Table:
    """Rich table of the scores: one row a class, the means, and NDS in the title."""
    table = Table(title=f"NDS {scores['NDS']:.4f}   mAP {scores['mAP']:.4f}   ({scores['samples']} samples)")
    table.add_column("class")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, row in scores["classes"].items():
        table.add_row(name, *(_number(row[column]) for column in COLUMNS))
    table.add_section()
    table.add_row("mean", *(_number(scores[f"m{column}"]) for column in COLUMNS), style="bold")
    return table


def print_scores(scores: dict[str, Any]) -> None:
    """Print the table to standard output."""
    Console(width=None).print(score_table(scores))


def print_comparison(found: Mapping[str, Interval]) -> None:
    """Print the differences of two results, and whether they may be noise."""
    table = Table(title="Difference to the other results, 95 % interval over scenes")
    for column in ("score", "difference", "low", "high", "verdict"):
        table.add_column(column, justify="left" if column in ("score", "verdict") else "right")
    for name, v in found.items():
        numbers = (math.nan if x is None else x for x in (v.value, v.low, v.high))
        table.add_row(name, *("-" if math.isnan(x) else f"{x:+.4f}" for x in numbers), verdict(v))
    Console(width=None).print(table)


def save_scores(path: str | Path, scores: dict[str, Any]) -> None:
    """Write the scores as JSON, atomically; an error that a class does not have (NaN) becomes null."""
    write_json(path, scores, indent=2)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
