"""Scores of every class, at each recall threshold and as a whole, from tracks by scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bev.evaluation.tracking.clear_mot import Frame, Numbers, centre_distances, match, numbers_of, thresholds_of

# The devkit's tracks: boxes by scene, then by time stamp.
Tracks = Mapping[str, Mapping[int, list[Any]]]
Curves = dict[str, np.ndarray]
METRICS = ("gt", "tp", "motar", "mota", "motp", "faf", "mt", "ml", "fp", "fn", "ids", "frag", "recall", "tid", "lgd")
_AVERAGED = {"amota": "motar", "amotp": "motp"}


def class_frames(truth: Tracks, predicted: Tracks, name: str, limit_m: float) -> list[list[Frame]]:
    """What there is of a class, by scene and sample."""
    scenes = []
    for token, samples in truth.items():
        objects, tracks = dict[str, int](), dict[str, int]()
        frames = []
        for time, boxes in samples.items():
            true = [box for box in boxes if box.tracking_name == name]
            found = [box for box in predicted[token][time] if box.tracking_name == name]
            first, second = (np.array([b.translation[:2] for b in g], float).reshape(-1, 2) for g in (true, found))
            scores = np.array([box.tracking_score for box in found], float)
            distance = centre_distances(first, second, limit_m)
            frames.append(Frame(_numbers(true, objects), _numbers(found, tracks), scores, distance))
        scenes.append(frames)
    return scenes


def _numbers(boxes: list[Any], known: dict[str, int]) -> np.ndarray:
    return np.array([known.setdefault(box.tracking_id, len(known)) for box in boxes], np.int64)


def class_curves(scenes: list[list[Frame]], config: Any) -> Curves | None:
    """(T,) ``confidence`` and ``METRICS`` at the recall thresholds, falling; None without a true box.

    Args:
        scenes: of :func:`class_frames`.
        config: the devkit's ``TrackingConfig``.
    """
    boxes = sum(len(frame.objects) for scene in scenes for frame in scene)
    if not boxes:
        return None
    recall = np.linspace(config.min_recall, 1, config.num_thresholds).round(12)
    thresholds = thresholds_of(match(scenes, None).scores, boxes, recall)[::-1]
    measured = {t: numbers_of(match(scenes, t)) for t in np.unique(thresholds[~np.isnan(thresholds)]).tolist()}
    # A class of which nothing counts as found has the worst numbers throughout, else NaN where a recall is not reached.
    none = dict.fromkeys(METRICS, np.nan) if measured else _worst(scenes, boxes, config.metric_worst)
    rows = [measured.get(t, none) for t in thresholds.tolist()]
    return {"confidence": thresholds, **{metric: np.array([row[metric] for row in rows], float) for metric in METRICS}}


def _worst(scenes: list[list[Frame]], boxes: int, worst: Mapping[str, float]) -> Numbers:
    """The configuration's worst values, its -1 replaced by what it stands for; who made which mistake is not known."""
    objects = sum(len({int(k) for frame in scene for k in frame.objects}) for scene in scenes)
    meant = {"ml": objects, "gt": boxes, "fn": boxes, "fp": np.nan, "ids": np.nan, "frag": np.nan}
    return {metric: meant[metric] if worst[metric] == -1 else worst[metric] for metric in METRICS}


def class_scores(curves: Curves | None, config: Any) -> Numbers:
    """AMOTA and AMOTP, means over the thresholds, and ``METRICS`` at the one with the best MOTA; NaN without truth."""
    if curves is None:
        return dict.fromkeys((*_AVERAGED, *METRICS), np.nan)
    means = {}
    for name, metric in _AVERAGED.items():
        values = np.where(np.isnan(curves[metric]), config.metric_worst[name], curves[metric])
        means[name] = float(np.nanmean(values)) if not np.isnan(curves[metric]).all() else np.nan
    best = int(np.nanargmax(curves["mota"]))
    return {**means, **{metric: float(curves[metric][best]) for metric in METRICS}}
