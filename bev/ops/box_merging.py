"""Greedy merging of boxes that mostly lie in each other: one object, found in several tiles of a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops.box_iou import box_iou
from bev.ops.greedy import by_score


def merge_boxes(
    boxes_px: Tensor,  # (M, 4)
    score: Tensor,  # (M,)
    threshold: float = 0.5,
    group: Tensor | None = None,  # (M,)
) -> tuple[Tensor, Tensor, Tensor]:
    """Clusters, best first: the best box that is left takes every box left of its group that it overlaps, measured
    over the smaller of the two, by more than the threshold; the result is the hull of them all with the best score.

    A tile's border cuts objects. The piece lies within the box that another tile gives, so that its share of the
    smaller area is near 1 while the IoU, which suppression looks at, may be anything. The measure and the merging by
    rank are those of sliced inference (Akyon et al., ICIP 2022, arXiv 2202.06934); here a cluster is what overlaps its
    best box as that was predicted, so that clusters cannot grow on from piece to piece.

    Args:
        boxes_px: x1, y1, x2, y2.
        score: of each.
        threshold: intersection over the smaller area, not included.
        group: usually the class; boxes of different groups do not touch each other.

    Returns:
        (K, 4) hulls, (K,) scores, both by falling score, and (M,) int64 the cluster of every box.

    Raises:
        ValueError: shapes that do not fit.
    """
    count = len(boxes_px)
    if boxes_px.shape != (count, 4) or score.shape != (count,) or (group is not None and group.shape != (count,)):
        raise ValueError("merge_boxes: expected boxes (M, 4), score (M,) and group (M,)")
    order = by_score(score)
    boxes = boxes_px[order].to(torch.promote_types(boxes_px.dtype, torch.float32))
    labels = None if group is None else group[order]
    left = torch.ones(count, dtype=torch.bool, device=boxes.device)
    cluster_of = torch.zeros(count, dtype=torch.int64, device=boxes.device)
    hulls, best = [], []
    for index in range(count):
        if not left[index]:
            continue
        one = boxes[index : index + 1]
        overlap = torch.maximum(box_iou(one, boxes, "iof")[0], box_iou(boxes, one, "iof")[:, 0])
        taken = left & (overlap > threshold)
        taken = taken if labels is None else taken & (labels == labels[index])
        taken[index] = True  # also a box without area
        left &= ~taken
        cluster_of[order[taken]] = len(hulls)
        hulls.append(torch.cat([boxes[taken, :2].amin(0), boxes[taken, 2:].amax(0)]))
        best.append(order[index])
    if not hulls:
        return boxes_px, score, cluster_of
    return torch.stack(hulls).to(boxes_px.dtype), score[torch.stack(best)], cluster_of
