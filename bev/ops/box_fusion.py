"""Weighted box fusion: overlapping boxes become their mean, not the best one (Solovyev et al., arXiv 1910.13302)."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops.box_iou import box_iou
from bev.ops.greedy import by_score


def weighted_box_fusion(
    boxes_px: Tensor,  # (M, 4)
    score: Tensor,  # (M,)
    iou_threshold: float = 0.55,
    group: Tensor | None = None,  # (M,)
    sources: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Clusters of boxes, best first: a box joins the cluster of its group whose fused box it overlaps most, above the
    threshold, or begins one. A fused box is the score-weighted mean of its members, its score their mean score times
    ``min(members, sources) / sources``.

    Args:
        boxes_px: x1, y1, x2, y2, of all sources together.
        score: of each.
        iou_threshold: least overlap (not included) with the fused box.
        group: usually the class; None for one group.
        sources: number of models or views (N) that could have found an object; 1 leaves scores at their mean.

    Returns:
        (K, 4) fused boxes, (K,) scores, both by falling score, and (M,) int64 the cluster of every box.

    Raises:
        ValueError: shapes that do not fit, or fewer than one source.
    """
    count = len(boxes_px)
    if boxes_px.shape != (count, 4) or score.shape != (count,) or (group is not None and group.shape != (count,)):
        raise ValueError("weighted_box_fusion: expected boxes (M, 4), score (M,) and group (M,)")
    if sources < 1:
        raise ValueError(f"weighted_box_fusion: sources is {sources}, expected at least 1")
    wide = torch.promote_types(boxes_px.dtype, torch.float32)
    boxes, weights = boxes_px.to(wide), score.to(wide)
    labels = torch.zeros(count, dtype=torch.int64, device=score.device) if group is None else group
    fused, sums, members = boxes.new_zeros(count, 4), boxes.new_zeros(count), boxes.new_zeros(count)
    own, cluster_of, clusters = labels.clone(), torch.full_like(labels, -1), 0
    for index in by_score(score).tolist():
        iou = box_iou(boxes[index : index + 1], fused[:clusters])[0]
        iou = torch.where(own[:clusters] == labels[index], iou, -1.0)
        best = int(iou.argmax()) if clusters else -1
        if best < 0 or float(iou[best]) <= iou_threshold:
            best, clusters = clusters, clusters + 1
            own[best] = labels[index]
        weight = weights[index].clamp(min=1e-12)
        fused[best] = (fused[best] * sums[best] + boxes[index] * weight) / (sums[best] + weight)
        sums[best] += weight
        members[best] += 1
        cluster_of[index] = best
    result = sums[:clusters] / members[:clusters] * members[:clusters].clamp(max=sources) / sources
    order = result.argsort(descending=True, stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(clusters, device=order.device))
    return fused[order].to(boxes_px.dtype), result[order].to(score.dtype), place[cluster_of] if count else cluster_of
