"""Our scores beside the official devkit's, number by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bev.evaluation.nuscenes.curves import FIELDS, Curves
from bev.evaluation.nuscenes.evaluate import Evaluation
from bev.evaluation.nuscenes.scores import Scores


@dataclass(frozen=True)
class Difference:
    """A number that is not the same; ``name`` such as ``"AOE/car"``."""

    name: str
    ours: float
    official: float


def differences(ours: Evaluation, scores: Scores, curves: Mapping[str, list[Curves]]) -> tuple[list[Difference], int]:
    """Every score and every point of every curve against the devkit's.

    Args:
        ours: our evaluation.
        scores, curves: of :func:`bev.evaluation.nuscenes.evaluate_official` with the same settings.

    Returns:
        What differs by a single bit or more (two NaN are the same), of a curve its point that differs most; and how
        many numbers were compared.
    """
    found, compared = score_differences(ours.scores, scores)
    for name, at_thresholds in ours.curves.items():
        for threshold, mine, theirs in zip(ours.settings.thresholds_m, at_thresholds, curves[name], strict=True):
            for field in FIELDS:
                a, b = getattr(mine, field), getattr(theirs, field)
                compared += len(a)
                if not np.array_equal(a, b, equal_nan=True):
                    worst = int(np.nanargmax(np.abs(a - b)))
                    found.append(Difference(f"{field}/{name}@{threshold}[{worst}]", float(a[worst]), float(b[worst])))
    return found, compared


def score_differences(ours: Scores, official: Scores, tolerance: float = 0.0) -> tuple[list[Difference], int]:
    """Every number of ``official`` (by name, and by class under ``classes``) against ours; as :func:`differences`.

    Args:
        tolerance: differences up to it are none.
    """
    mine, theirs = _flat(ours), _flat(official)
    names = [name for name in mine if name in theirs]
    found = [Difference(n, mine[n], theirs[n]) for n in names if not _same(mine[n], theirs[n], tolerance)]
    return found, len(names)


def describe(found: list[Difference], compared: int, how: str = "to the last bit") -> str:
    """The comparison in words, one line a difference."""
    if not found:
        return f"official devkit: all {compared} numbers are equal {how}"
    lines = [f"official devkit: {len(found)} differences in {compared} numbers (ours, official, difference)"]
    lines += [f"  {d.name}: {d.ours!r}, {d.official!r}, {d.ours - d.official:.3g}" for d in found]
    return "\n".join(lines)


def _flat(scores: Scores) -> dict[str, Any]:
    flat = {name: value for name, value in scores.items() if name != "classes"}
    flat.update({f"{kind}/{name}": value for name, row in scores["classes"].items() for kind, value in row.items()})
    return flat


def _same(a: float, b: float, tolerance: float = 0.0) -> bool:
    return bool(a == b or abs(a - b) <= tolerance or (np.isnan(a) and np.isnan(b)))
