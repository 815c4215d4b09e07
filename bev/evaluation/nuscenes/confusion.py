"""What is taken for what, and the worst mistakes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.curves import Curves
from bev.evaluation.nuscenes.evaluate import Evaluation
from bev.evaluation.nuscenes.exact import norm
from bev.evaluation.nuscenes.matching import match
from bev.structures.conventions import CLASSES


def operating_scores(done: Evaluation) -> np.ndarray:
    """(10,) score of each class at which precision and recall are best together (F1); infinite without a match."""
    return np.array([_best_f1(done.curves[name][done.settings.error_index]) for name in CLASSES])


def _best_f1(curves: Curves) -> float:
    total = curves.precision + curves.recall
    f1 = np.divide(2 * curves.precision * curves.recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(f1.argmax())
    return float(curves.confidence[best]) if f1[best] > 0 else np.inf


def confusion_matrix(done: Evaluation) -> np.ndarray:
    """(11, 11) counts: row the class of the truth, column the class of the prediction; the last one is "nothing".

    Predictions from their class's :func:`operating_scores` up are matched at the error threshold whatever their class.
    """
    predicted = done.predicted[done.predicted.score >= operating_scores(done)[done.predicted.label]]
    truth_of = match(_classless(done.truth), _classless(predicted), (done.settings.error_threshold_m,))[0]
    nothing = len(CLASSES)
    matrix = np.zeros((nothing + 1, nothing + 1), int)
    hit = truth_of >= 0
    np.add.at(matrix, (done.truth.label[truth_of[hit]], predicted.label[hit]), 1)
    np.add.at(matrix, (nothing, predicted.label[~hit]), 1)
    missed = np.ones(len(done.truth), bool)
    missed[truth_of[hit]] = False
    np.add.at(matrix, (done.truth.label[missed], nothing), 1)
    return matrix


def _classless(boxes: BoxColumns) -> BoxColumns:
    return replace(boxes, label=np.zeros_like(boxes.label))


@dataclass(frozen=True)
class Mistake:
    """A false positive (``row`` of the predictions) or a miss (of the truth), and what stands nearest to it.

    Attributes:
        row, sample: of the evaluation.
        nearest: row of the truth (of the predictions) of any class in the sample that is nearest; -1 for none.
        distance_m: to it, infinite for none.
    """

    row: int
    sample: int
    nearest: int
    distance_m: float


def worst_false_positives(done: Evaluation, count: int) -> list[Mistake]:
    """Predictions without a match at any threshold, highest score first."""
    wrong = np.flatnonzero((done.matched < 0).all(0))
    wrong = wrong[np.argsort(-done.predicted.score[wrong], kind="stable")][:count]
    return [_mistake(done.predicted, int(row), done.truth) for row in wrong]


def worst_misses(done: Evaluation, count: int) -> list[Mistake]:
    """Boxes of the truth that no threshold matches to anything, those with most points inside first."""
    missed = np.ones(len(done.truth), bool)
    missed[done.matched[done.matched >= 0]] = False
    rows = np.flatnonzero(missed)
    rows = rows[np.argsort(-done.truth.num_pts[rows], kind="stable")][:count]
    return [_mistake(done.truth, int(row), done.predicted) for row in rows]


def _mistake(boxes: BoxColumns, row: int, others: BoxColumns) -> Mistake:
    sample = int(boxes.sample[row])
    near = np.flatnonzero(others.sample == sample)
    if not len(near):
        return Mistake(row, sample, -1, np.inf)
    apart = norm(others.center_m[near, :2] - boxes.center_m[row, :2])
    return Mistake(row, sample, int(near[apart.argmin()]), float(apart.min()))
