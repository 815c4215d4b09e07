"""The five errors of matched boxes: translation, velocity, scale, orientation, attribute."""

from __future__ import annotations

import numpy as np

from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.exact import norm, yaw
from bev.structures.conventions import CLASSES

_BARRIER = CLASSES.index("barrier")


def matched_errors(truth: BoxColumns, predicted: BoxColumns, matched: np.ndarray) -> dict[str, np.ndarray]:
    """Errors of every match.

    Args:
        truth, predicted: G and M boxes.
        matched: (T, M) row of ``truth`` or -1, as from ``matching.match``.

    Returns:
        By name ``trans_err`` (m), ``vel_err`` (m/s), ``scale_err`` (1 - IoU), ``orient_err`` (rad), ``attr_err`` (0 or
        1): (T, M), NaN where there is no match or the truth does not say.
    """
    threshold, prediction = np.nonzero(matched >= 0)
    rows = matched[threshold, prediction].astype(np.int64)
    # Most matches are the same at every threshold: each pair is computed once.
    pair, of_match = np.unique(prediction * max(len(truth), 1) + rows, return_inverse=True)
    prediction_of_pair, truth_of_pair = np.divmod(pair, max(len(truth), 1))
    errors = pair_errors(truth[truth_of_pair], predicted[prediction_of_pair])
    tables = {}
    for name, values in errors.items():
        tables[name] = np.full(matched.shape, np.nan)
        tables[name][threshold, prediction] = values[of_match.reshape(-1)]
    return tables


def pair_errors(truth: BoxColumns, predicted: BoxColumns) -> dict[str, np.ndarray]:
    """Errors of n pairs, (n,) each; see :func:`matched_errors`."""
    with np.errstate(invalid="ignore"):  # velocities that are not known
        velocity = norm(predicted.velocity_mps - truth.velocity_mps)
    return {
        "trans_err": norm(predicted.center_m[:, :2] - truth.center_m[:, :2]),
        "vel_err": velocity,
        "scale_err": 1 - _aligned_iou(truth.size_m, predicted.size_m),
        "orient_err": _yaw_difference(truth, predicted),
        "attr_err": np.where(truth.attribute < 0, np.nan, 1.0 - (truth.attribute == predicted.attribute)),
    }


def _aligned_iou(size_m: np.ndarray, other_m: np.ndarray) -> np.ndarray:
    """(n,) intersection over union of boxes of the same centre and heading, from (n, 3) sizes."""
    volume, other = (s[:, 0] * s[:, 1] * s[:, 2] for s in (size_m, other_m))
    least = np.minimum(size_m, other_m)
    intersection = least[:, 0] * least[:, 1] * least[:, 2]
    return intersection / (volume + other - intersection)


def _yaw_difference(truth: BoxColumns, predicted: BoxColumns) -> np.ndarray:
    """(n,) rad in [0, pi]; barriers look the same from both sides, so theirs is in [0, pi / 2]."""
    period = np.where(truth.label == _BARRIER, np.pi, 2 * np.pi)
    difference = (yaw(truth.rotation) - yaw(predicted.rotation) + period / 2) % period - period / 2
    return np.abs(np.where(difference > np.pi, difference - 2 * np.pi, difference))
