"""From curves to AP, the five errors and NDS (https://www.nuscenes.org/object-detection, "Metrics")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bev.evaluation.nuscenes.curves import Curves
from bev.evaluation.nuscenes.settings import ERRORS, UNDEFINED, DetectionSettings

Scores = dict[str, Any]


def average_precision(curves: Curves, settings: DetectionSettings) -> float:
    """Area under precision above ``min_precision`` and right of ``min_recall``, as a share of what is possible."""
    precision = curves.precision[_first(settings) :] - settings.min_precision
    return float(np.mean(np.where(precision < 0, 0, precision))) / (1.0 - settings.min_precision)


def mean_error(curves: Curves, name: str, settings: DetectionSettings) -> float:
    """Mean of an error's curve from ``min_recall`` to the recall that is reached; 1 where that is less."""
    reached = np.flatnonzero(curves.confidence)
    last = int(reached[-1]) if len(reached) else 0
    first = _first(settings)
    return 1.0 if last < first else float(np.mean(getattr(curves, name)[first : last + 1]))


def _first(settings: DetectionSettings) -> int:
    """The first recall that counts: the one after ``min_recall``."""
    return round(100 * settings.min_recall) + 1


def summarize(curves: Mapping[str, list[Curves]], settings: DetectionSettings, samples: int) -> Scores:
    """Every score by name.

    Returns:
        ``NDS``, ``mAP``, ``mATE``, ``mASE``, ``mAOE``, ``mAVE``, ``mAAE``, ``samples``, and ``classes``: of each class
        ``AP``, ``AP@0.5`` ... (one for each threshold) and the five errors, NaN where a class has none.
    """
    classes = {name: _class_scores(name, curves[name], settings) for name in settings.class_names}
    mean_ap = float(np.mean([row["AP"] for row in classes.values()]))
    errors = {short: float(np.nanmean([row[short] for row in classes.values()])) for short in ERRORS.values()}
    quality = [max(0.0, 1.0 - value) for value in errors.values()]
    nds = float(settings.map_weight * mean_ap + np.sum(quality)) / float(settings.map_weight + len(quality))
    means = {f"m{short}": value for short, value in errors.items()}
    return {"NDS": nds, "mAP": mean_ap, **means, "samples": samples, "classes": classes}


def _class_scores(name: str, curves: list[Curves], settings: DetectionSettings) -> dict[str, float]:
    precision = {f"AP@{t}": average_precision(at, settings) for t, at in zip(settings.thresholds_m, curves)}
    errors = {
        short: np.nan if long in UNDEFINED.get(name, ()) else mean_error(curves[settings.error_index], long, settings)
        for long, short in ERRORS.items()
    }
    return {"AP": float(np.mean(list(precision.values()))), **precision, **errors}
