"""Precision, confidence and running errors against recall, for every class and threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.settings import ERRORS
from bev.structures.conventions import CLASSES

RECALLS = 101
FIELDS = ("recall", "precision", "confidence", *ERRORS)


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves of a class at a threshold, each (101,) float64 at the recalls 0, 0.01 ... 1.

    ``confidence`` is the score at which a recall is reached, 0 where it is not; the errors are means over all matches
    down to that score (m, 1 - IoU, rad, m/s, 1 - accuracy). Without any match precision and confidence are 0 and the
    errors 1.
    """

    recall: np.ndarray
    precision: np.ndarray
    confidence: np.ndarray
    trans_err: np.ndarray
    scale_err: np.ndarray
    orient_err: np.ndarray
    vel_err: np.ndarray
    attr_err: np.ndarray

    @staticmethod
    def without_matches() -> Curves:
        """What a class without ground truth or without a match gets."""
        zeros, ones = np.zeros(RECALLS), np.ones(RECALLS)
        return Curves(np.linspace(0, 1, RECALLS), zeros, zeros, ones, ones, ones, ones, ones)


def accumulate(
    truth: BoxColumns, predicted: BoxColumns, matched: np.ndarray, errors: Mapping[str, np.ndarray], order: np.ndarray
) -> dict[str, list[Curves]]:
    """Curves of each class at each threshold.

    Args:
        truth, predicted: G and M boxes.
        matched: (T, M) of ``matching.match``.
        errors: (T, M) each, of ``box_errors.matched_errors``.
        order: (M,) rows of ``predicted``, best first.

    Returns:
        By class a list of T curves.

    Raises:
        ValueError: scores below 0, with which the confidences do not descend.
    """
    positives = np.bincount(truth.label, minlength=len(CLASSES))
    label = predicted.label[order]
    curves = {}
    for c, name in enumerate(CLASSES):
        rows = order[label == c]
        score, is_match = predicted.score[rows], matched[:, rows] >= 0
        curves[name] = [
            _curves(int(positives[c]), score, is_match[t], {kind: errors[kind][t, rows] for kind in errors})
            for t in range(len(matched))
        ]
        if any((np.diff(at.confidence) > 0).any() for at in curves[name]):
            raise ValueError(f"class {name}: scores below 0 cannot be scored, the smallest is {score.min()}")
    return curves


def _curves(positives: int, score: np.ndarray, is_match: np.ndarray, errors: Mapping[str, np.ndarray]) -> Curves:
    """Curves from predictions best first: (n,) scores, whether each matched, and the errors by name."""
    if not is_match.any():
        return Curves.without_matches()
    true = np.cumsum(is_match).astype(np.float64)
    precision = true / np.arange(1, len(true) + 1)
    found = true / float(positives)
    recall = np.linspace(0, 1, RECALLS)
    confidence = np.interp(recall, found, score, right=0)
    of_match = score[is_match]
    means = {
        # Read off at the confidences, not at the recalls; np.interp wants them ascending.
        name: np.interp(confidence[::-1], of_match[::-1], running_mean(values[is_match])[::-1])[::-1]
        for name, values in errors.items()
    }
    return Curves(recall, np.interp(recall, found, precision, right=0), confidence, **means)


def running_mean(values: np.ndarray) -> np.ndarray:
    """(n,) mean of the values up to each one, NaN left out: 0 before the first number, all 1 where there is none."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    count = np.cumsum(known)
    return np.divide(np.nancumsum(values), count, out=np.zeros(len(values)), where=count != 0)
