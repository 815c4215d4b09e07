"""Greedy merging of boxes that mostly lie in each other: one object, found in several tiles of a picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bev.ops.greedy import by_score

# Share of the best box's score from which on another one says how far a cut object reaches.
_TRUSTED = 0.5


def merge_boxes(
    boxes_px: Tensor,  # (M, 4)
    score: Tensor,  # (M,)
    threshold: float = 0.5,
    group: Tensor | None = None,  # (M,)
    cut: Tensor | None = None,  # (M,) bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Clusters, best first: the best box that is left takes every box left of its group that it overlaps, measured
    over the smaller of the two, by more than the threshold; the result is the hull of them all with the best score.

    A tile's border cuts objects. The piece lies within the box that another tile gives, so that its share of the
    smaller area is near 1 while the IoU, which suppression looks at, may be anything. The measure and the merging by
    rank are those of sliced inference (Akyon et al., ICIP 2022, arXiv 2202.06934); here a cluster is what overlaps its
    best box as that was predicted, so that clusters cannot grow on from piece to piece.

    Where it is known which boxes a tile's border cut, the others are left as they are: two whole boxes are one object
    by their intersection over union alone, a whole best box stays what it is, and a cut one grows only by boxes of at
    least half its score. Without that, one improbable large box swallows the good small ones within it.

    Args:
        boxes_px: x1, y1, x2, y2.
        score: of each.
        threshold: intersection over the smaller area, not included.
        group: usually the class; boxes of different groups do not touch each other.
        cut: boxes that end at a tile's border within the picture; None where nobody knows: all may be.

    Returns:
        (K, 4) hulls, (K,) scores, both by falling score, and (M,) int64 the cluster of every box.

    Raises:
        ValueError: shapes that do not fit.
    """
    count = len(boxes_px)
    if boxes_px.shape != (count, 4) or any(x is not None and x.shape != (count,) for x in (score, group, cut)):
        raise ValueError("merge_boxes: expected boxes (M, 4), score (M,), group (M,) and cut (M,)")
    boxes = boxes_px.detach().cpu().to(torch.promote_types(boxes_px.dtype, torch.float32)).numpy()
    labels = np.zeros(count, np.int64) if group is None else group.cpu().numpy()
    pieces = None if cut is None else cut.cpu().numpy()
    scores, order = score.detach().cpu().numpy(), by_score(score).cpu().numpy()
    leader = np.zeros(count, np.int64)  # of every box the best one of its cluster
    hulls = boxes.copy()
    for label in np.unique(labels):
        _merge_group(boxes, scores, pieces, order[labels[order] == label], threshold, leader, hulls)
    leaders = order[leader[order] == order]
    place = np.zeros(count, np.int64)
    place[leaders] = np.arange(len(leaders))
    chosen = torch.from_numpy(leaders).to(score.device)
    joined = torch.from_numpy(hulls[leaders]).to(boxes_px.device, boxes_px.dtype)
    return joined, score[chosen], torch.from_numpy(place[leader]).to(score.device)


def _merge_group(
    boxes: np.ndarray,
    scores: np.ndarray,
    cut: np.ndarray | None,
    left: np.ndarray,
    threshold: float,
    leader: np.ndarray,
    hulls: np.ndarray,
) -> None:
    """One group, ``left`` its boxes by falling score; writes ``leader`` and ``hulls``. One step needs the last: numpy's
    calls are the cheaper ones."""
    while len(left):
        best, others = boxes[left[0]], boxes[left]
        shared = (np.minimum(best[2:], others[:, 2:]) - np.maximum(best[:2], others[:, :2])).clip(0).prod(1)
        areas, own = (others[:, 2:] - others[:, :2]).prod(1), (best[2:] - best[:2]).prod()
        base = np.minimum(areas, own)
        if cut is not None:
            base = np.where(cut[left] | cut[left[0]], base, areas + own - shared)
        taken = shared > threshold * base
        taken[0] = True  # also a box without area
        leader[left[taken]] = left[0]
        if cut is None or cut[left[0]]:
            grows = taken if cut is None else taken & (scores[left] >= _TRUSTED * scores[left[0]])
            hulls[left[0]] = [*others[grows, :2].min(0), *others[grows, 2:].max(0)]
        left = left[~taken]
