"""Greedy matching of predictions to ground truth by centre distance, all classes and thresholds in one pass.

nuScenes goes through the predictions of a class best first; each takes the nearest ground truth of its sample that is
still free, if that is nearer than the threshold. Predictions only compete within one sample and class, so the first
ones of all groups can be decided together, then the second ones, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bev.evaluation.nuscenes.columns import BoxColumns, group_of
from bev.evaluation.nuscenes.exact import norm

# Pairs whose distances are held in memory at once.
_CHUNK = 1_000_000


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Prediction and ground truth nearer than the largest threshold: rows of both, and the distance in m."""

    prediction: np.ndarray
    truth: np.ndarray
    distance_m: np.ndarray


def best_first(score: np.ndarray) -> np.ndarray:
    """(M,) rows by descending score; of equal scores the later row comes first, which is the devkit's order."""
    return np.argsort(score, kind="stable")[::-1]


def match(
    truth: BoxColumns, predicted: BoxColumns, thresholds_m: tuple[float, ...], order: np.ndarray | None = None
) -> np.ndarray:
    """Match predictions to ground truth.

    Args:
        truth, predicted: G and M boxes of the same samples.
        thresholds_m: T distances; a match is strictly nearer.
        order: (M,) rows of ``predicted`` in the order in which they choose; None: best first.

    Returns:
        (T, M) int32: row of ``truth``, or -1 for a false positive.
    """
    order = best_first(predicted.score) if order is None else order
    pairs = _near_pairs(truth, predicted, order, max(thresholds_m))
    matched = np.full((len(thresholds_m), len(predicted)), -1, np.int32)
    if len(pairs.prediction):
        _choose(pairs, group_of(predicted), np.array(thresholds_m), matched, len(truth))
    return matched


def _near_pairs(truth: BoxColumns, predicted: BoxColumns, order: np.ndarray, limit_m: float) -> _Pairs:
    """Pairs of one sample and class nearer than the limit: predictions in their order, truth in its file's."""
    truth_group, group = group_of(truth), group_of(predicted)[order]
    sorted_truth = np.argsort(truth_group, kind="stable")
    truth_group = truth_group[sorted_truth]
    first = np.searchsorted(truth_group, group, side="left")
    count = np.searchsorted(truth_group, group, side="right") - first
    parts = [
        _near_pairs_of(truth.center_m, predicted.center_m, order[part], sorted_truth, first[part], count[part], limit_m)
        for part in _chunks(count)
    ]
    return _Pairs(*(np.concatenate(column) for column in zip(*parts)))


def _chunks(count: np.ndarray) -> Iterator[slice]:
    """Slices of the predictions that have about ``_CHUNK`` pairs each; one empty slice where there is none."""
    end = np.cumsum(count)
    edges = np.arange(0, int(end[-1]) if len(end) else 0, _CHUNK)
    starts = [*np.unique(np.searchsorted(end, edges, side="right")).tolist(), len(count)]
    return (slice(a, b) for a, b in zip(starts, starts[1:])) if len(starts) > 1 else iter([slice(0, 0)])


def _near_pairs_of(
    truth_m: np.ndarray,
    predicted_m: np.ndarray,
    rows: np.ndarray,
    sorted_truth: np.ndarray,
    first: np.ndarray,
    count: np.ndarray,
    limit_m: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    prediction = np.repeat(rows, count)
    truth = sorted_truth[np.arange(len(prediction)) - np.repeat(np.cumsum(count) - count - first, count)]
    offset = predicted_m[prediction, :2] - truth_m[truth, :2]
    near = (np.abs(offset) <= limit_m).all(1)
    prediction, truth, offset = prediction[near], truth[near], offset[near]
    distance = norm(offset)
    near = distance < limit_m
    return prediction[near], truth[near], distance[near]


def _choose(pairs: _Pairs, group: np.ndarray, thresholds_m: np.ndarray, matched: np.ndarray, truths: int) -> None:
    """Fill ``matched``, (T, M), round by round: the r-th prediction of every group chooses in round r."""
    rows, slot_of_pair = _slots(pairs.prediction)
    rank = _rank_in_group(group[rows])
    by_rank = np.argsort(rank, kind="stable")
    place = np.empty_like(by_rank)
    place[by_rank] = np.arange(len(rows))
    # By round, then prediction, then distance; equal distances keep the order of the file, whose first one wins.
    order = np.lexsort((pairs.distance_m, place[slot_of_pair]))
    slot, truth = place[slot_of_pair][order], pairs.truth[order]
    near = pairs.distance_m[order] < thresholds_m[:, None]
    ends = np.searchsorted(slot, np.cumsum(np.bincount(rank)), side="left")
    free = np.ones((len(thresholds_m), truths), bool)
    rows = rows[by_rank]
    for start, end in zip([0, *ends[:-1].tolist()], ends.tolist()):
        chosen = truth[start:end]
        threshold, pair = np.nonzero(near[:, start:end] & free[:, chosen])
        mine = slot[start:end][pair]
        nearest = np.ones(len(pair), bool)
        nearest[1:] = (mine[1:] != mine[:-1]) | (threshold[1:] != threshold[:-1])
        threshold, pair = threshold[nearest], pair[nearest]
        free[threshold, chosen[pair]] = False
        matched[threshold, rows[mine[nearest]]] = chosen[pair]


def _slots(prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that have pairs, in their order, and the number of each pair's prediction among them."""
    new = np.ones(len(prediction), bool)
    new[1:] = prediction[1:] != prediction[:-1]
    return prediction[new], np.cumsum(new) - 1


def _rank_in_group(group: np.ndarray) -> np.ndarray:
    """(n,) how many of the same group come before each."""
    order = np.argsort(group, kind="stable")
    in_order = group[order]
    start = np.searchsorted(in_order, in_order, side="left")
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - start
    return rank
