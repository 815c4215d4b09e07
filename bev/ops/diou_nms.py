"""Suppression that spares boxes whose centres lie apart (Zheng et al., Distance-IoU Loss, AAAI 2020, section 3.5)."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops.greedy import by_score, greedy_keep


def diou_nms(
    boxes_px: Tensor,  # (M, 4)
    score: Tensor,  # (M,)
    threshold: float,
    group: Tensor | None = None,  # (M,)
    max_num: int | None = None,
) -> Tensor:
    """Greedy suppression of lower-scored boxes whose IoU with a kept one, less the squared distance of the centres over
    the squared diagonal of the hull, is above a threshold.

    Args:
        boxes_px: x1, y1, x2, y2.
        group: usually the class; boxes of different groups do not touch each other.
        max_num: keep at most that many.

    Returns:
        (K,) int64 indices of the kept boxes, by falling score (ties: lower index first).

    Raises:
        ValueError: shapes that do not fit.
    """
    count = len(boxes_px)
    if boxes_px.shape != (count, 4) or score.shape != (count,) or (group is not None and group.shape != (count,)):
        raise ValueError(f"diou_nms: expected boxes (M, 4), score (M,), group (M,), got {tuple(boxes_px.shape)} ...")
    return _diou_nms(boxes_px, score, group, threshold)[:max_num]


@torch.library.custom_op("bev::diou_nms", mutates_args=())
def _diou_nms(boxes_px: Tensor, score: Tensor, group: Tensor | None, threshold: float) -> Tensor:
    order = by_score(score)
    boxes = boxes_px[order].to(torch.promote_types(boxes_px.dtype, torch.float32))
    labels = None if group is None else group[order]

    def suppresses(i: Tensor, j: Tensor) -> Tensor:
        near = pairwise_diou(boxes[i], boxes[j]) > threshold
        return near if labels is None else near & (labels[i, None] == labels[j])

    return order[greedy_keep(len(order), suppresses, order.device)]


@_diou_nms.register_fake
def _(boxes_px: Tensor, score: Tensor, group: Tensor | None, threshold: float) -> Tensor:
    return score.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def pairwise_diou(first: Tensor, second: Tensor) -> Tensor:
    """(M, 4) and (K, 4) corners -> (M, K) distance-IoU, from -1 to 1."""
    a, b = first[:, None], second[None]
    shared = (torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area = [(x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b)]
    iou = shared / (area[0] + area[1] - shared).clamp(min=1e-9)
    hull = torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    return iou - apart.square().sum(-1) / hull.square().sum(-1).clamp(min=1e-9)
