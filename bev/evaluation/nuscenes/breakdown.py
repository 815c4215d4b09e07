"""Scores by distance, visibility, LiDAR points, size, speed, camera and scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bev.data.frame_index import FrameIndex
from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.curves import accumulate
from bev.evaluation.nuscenes.evaluate import Evaluation
from bev.evaluation.nuscenes.filters import distance_to_ego
from bev.evaluation.nuscenes.matching import best_first
from bev.evaluation.nuscenes.scores import average_precision

_DISTANCE_M, _SIZE_M, _SPEED_MPS, _POINTS = (10, 20, 30, 40), (1, 2.5, 5.5, 10), (0.2, 2, 5, 10), (1, 6, 21, 101)
MEANS = {"ATE": "trans_err", "ASE": "scale_err", "AOE": "orient_err", "AVE": "vel_err"}


@dataclass(frozen=True, eq=False)
class Trait:
    """A property by which boxes are grouped.

    Attributes:
        name: e.g. ``"distance"``.
        groups: names of the groups.
        truth: (G,) group of each box of the truth.
        predicted: (M,) group of each prediction by its own values; None where only the truth has the property.
    """

    name: str
    groups: Sequence[str]
    truth: np.ndarray
    predicted: np.ndarray | None


@dataclass(frozen=True)
class GroupScores:
    """Scores of a group: ``mAP`` over the classes that it has (None where predictions cannot be told into groups), the
    share of the truth that is found at the error threshold, and the mean errors of these matches."""

    group: str
    truths: int
    recall: float
    mean_ap: float | None
    errors: dict[str, float]


def traits_of(done: Evaluation, index: FrameIndex, frames: np.ndarray) -> list[Trait]:
    """Every property of an evaluation's boxes.

    Args:
        done: an evaluation against ``index``.
        frames: (S,) row of the index of each sample.
    """
    ego = np.asarray(index.global_from_ego)[frames, :3, 3]
    both = (done.truth, done.predicted)
    rows = done.truth.source
    visibility, points = index.box_visibility[rows], index.box_num_lidar_pts[rows]
    levels = ("not known", "0-40 %", "40-60 %", "60-80 %", "80-100 %")
    speeds = [_bins(np.linalg.norm(b.velocity_mps, axis=1), _SPEED_MPS) for b in both]
    cameras, scenes = [*index.channels, "no camera"], [index.scenes[i] for i in range(len(index.scenes))]
    return [
        Trait("distance", _names(_DISTANCE_M, "m"), *(_bins(distance_to_ego(b, ego), _DISTANCE_M) for b in both)),
        Trait("visibility", levels, visibility.astype(int), None),
        Trait("LiDAR points", ("none (radar only)", "1-5", "6-20", "21-100", "over 100"), _bins(points, _POINTS), None),
        Trait("longest side", _names(_SIZE_M, "m"), *(_bins(b.size_m.max(1, initial=0), _SIZE_M) for b in both)),
        Trait("speed", [*_names(_SPEED_MPS, "m/s"), "not known"], *speeds),
        Trait("camera", cameras, *(camera_of(b, index, frames) for b in both)),
        Trait("scene", scenes, *(np.asarray(index.scene)[frames][b.sample] for b in both)),
    ]


def _bins(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Group of each value; NaN gets a group of its own after the last."""
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))


def _names(edges: Sequence[float], unit: str) -> list[str]:
    inner = [f"{low:g}-{high:g} {unit}" for low, high in zip(edges, edges[1:])]
    return [f"under {edges[0]:g} {unit}", *inner, f"over {edges[-1]:g} {unit}"]


def camera_of(boxes: BoxColumns, index: FrameIndex, frames: np.ndarray) -> np.ndarray:
    """(M,) camera in whose picture the centre lies nearest to the optical axis; the number of cameras where in none."""
    best, camera = np.full(len(boxes), -1.0), np.full(len(boxes), len(index.channels))
    for c in range(len(index.channels)):
        calibration = np.asarray(index.camera_calibration)[frames, c]
        global_from_camera = np.asarray(index.global_from_ego_of_camera)[frames, c] @ index.ego_from_camera[calibration]
        camera_from_global = np.linalg.inv(global_from_camera)[boxes.sample]
        xyz = np.einsum("mij,mj->mi", camera_from_global[:, :3, :3], boxes.center_m) + camera_from_global[:, :3, 3]
        pixel = np.einsum("mij,mj->mi", index.intrinsics[calibration][boxes.sample], xyz)
        height, width = np.asarray(index.camera_size_px)[frames, c][boxes.sample].T
        depth = np.maximum(pixel[:, 2], 1e-3)
        u, v = pixel[:, 0] / depth, pixel[:, 1] / depth
        seen = (pixel[:, 2] > 0.1) & (u > 0) & (u < width) & (v > 0) & (v < height) & (calibration >= 0)[boxes.sample]
        cosine = xyz[:, 2] / np.maximum(np.linalg.norm(xyz, axis=1), 1e-9)
        better = seen & (cosine > best)
        best[better], camera[better] = cosine[better], c
    return camera


def break_down(done: Evaluation, trait: Trait) -> list[GroupScores]:
    """Scores of each group that has boxes of the truth.

    A matched prediction belongs to the group of its match, one without a match to the group of its own values; nothing
    is matched anew, so the groups share out what was scored.
    """
    at = done.settings.error_index
    found = np.zeros(len(done.truth), bool)
    found[done.matched[at][done.matched[at] >= 0]] = True
    rows = []
    for g, name in enumerate(trait.groups):
        truth = trait.truth == g
        if not truth.any():
            continue
        matched = done.matched[at] >= 0
        matched[matched] = truth[done.matched[at][matched]]
        errors = {short: _mean(done.errors[long][at][matched]) for short, long in MEANS.items()}
        mean_ap = None if trait.predicted is None else _group_ap(done, truth, trait.predicted == g)
        rows.append(GroupScores(name, int(truth.sum()), float(found[truth].mean()), mean_ap, errors))
    return rows


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _group_ap(done: Evaluation, truth: np.ndarray, own: np.ndarray) -> float:
    """Mean AP over thresholds and over the classes of the group."""
    values: dict[str, list[float]] = {}
    labels = done.truth[truth]
    for t in range(len(done.settings.thresholds_m)):
        matched = done.matched[t]
        inside = np.where(matched >= 0, truth[matched] if len(truth) else False, own)
        predicted = done.predicted[inside]
        errors = {kind: table[t : t + 1, inside] for kind, table in done.errors.items()}
        curves = accumulate(labels, predicted, matched[None, inside], errors, best_first(predicted.score))
        for name, (at,) in curves.items():
            values.setdefault(name, []).append(average_precision(at, done.settings))
    present = [values[name] for c, name in enumerate(values) if (labels.label == c).any()]
    return float(np.mean(present))
