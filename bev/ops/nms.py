"""Non-maximum suppression of axis-aligned boxes: plain, class-wise, soft, and with the suppressed ones told."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bev.ops.box_iou import box_iou
from bev.ops.greedy import by_score, greedy_keep
from bev.ops.triton import takes

SoftMethod = Literal["naive", "linear", "gaussian"]


def nms(
    boxes_px: Tensor,  # (M, 4)
    score: Tensor,  # (M,)
    iou_threshold: float,
    group: Tensor | None = None,  # (M,)
    offset: int = 0,
    score_threshold: float = 0.0,
    max_num: int | None = None,
) -> Tensor:
    """Greedy suppression of lower-scored boxes that overlap a kept one by more than a threshold.

    Args:
        boxes_px: x1, y1, x2, y2.
        score: any float dtype.
        iou_threshold: boxes of a larger IoU are removed.
        group: int64, usually the class; boxes of different groups do not touch each other.
        offset: see :func:`bev.ops.box_iou.box_iou`.
        score_threshold: only boxes above it take part; 0 or less: all do.
        max_num: keep at most that many.

    Returns:
        (K,) int64 indices of the kept boxes, by falling score (ties: lower index first).

    Raises:
        ValueError: shapes that do not fit.
    """
    _check(boxes_px, score, group)
    taken = (score > score_threshold).nonzero().squeeze(1) if score_threshold > 0 else None
    if taken is not None:
        boxes_px, score, group = boxes_px[taken], score[taken], None if group is None else group[taken]
    kept = _nms(boxes_px, score, group, iou_threshold, offset)[:max_num]
    return kept if taken is None else taken[kept]


def _check(boxes_px: Tensor, score: Tensor, group: Tensor | None) -> None:
    count = len(boxes_px)
    if boxes_px.shape != (count, 4) or score.shape != (count,) or (group is not None and group.shape != (count,)):
        shapes = [tuple(x.shape) for x in (boxes_px, score, group) if x is not None]
        raise ValueError(f"nms: expected boxes (M, 4), score (M,) and group (M,), got {shapes}")


@torch.library.custom_op("bev::nms", mutates_args=())
def _nms(boxes_px: Tensor, score: Tensor, group: Tensor | None, iou_threshold: float, offset: int) -> Tensor:
    order = by_score(score)
    boxes = boxes_px[order].to(torch.promote_types(boxes_px.dtype, torch.float32))
    labels = None if group is None else group[order]
    if takes(boxes.device):
        from bev.ops.triton import suppression as kernels

        if kernels.fits(boxes):
            return order[kernels.keep(boxes, labels, iou_threshold, rotated=False, offset=offset)]

    def suppresses(i: Tensor, j: Tensor) -> Tensor:
        near = box_iou(boxes[i], boxes[j], offset=offset) > iou_threshold
        return near if labels is None else near & (labels[i, None] == labels[j])

    return order[greedy_keep(len(order), suppresses, order.device)]


@_nms.register_fake
def _(boxes_px: Tensor, score: Tensor, group: Tensor | None, iou_threshold: float, offset: int) -> Tensor:
    return score.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def _nms_reference(
    boxes_px: Tensor, score: Tensor, group: Tensor | None, iou_threshold: float, offset: int = 0
) -> Tensor:
    """The plainest form: the whole matrix, then one box after another against all kept ones."""
    near = box_iou(boxes_px, boxes_px, offset=offset) > iou_threshold
    if group is not None:
        near &= group[:, None] == group
    removes = near.tolist()
    kept: list[int] = []
    for i in by_score(score).tolist():
        if not any(removes[k][i] for k in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


def nms_match(boxes_px: Tensor, score: Tensor, iou_threshold: float) -> list[Tensor]:
    """Suppression that tells which box removed which.

    Args:
        boxes_px, score: as in :func:`nms`.
        iou_threshold: boxes of this IoU or a larger one are removed.

    Returns:
        One (G,) int64 tensor for each kept box, by falling score: its index, then those of the boxes that it removed,
        by falling score.
    """
    _check(boxes_px, score, None)
    order = by_score(score)
    boxes, groups = boxes_px[order], []
    alive = torch.ones(len(order), dtype=torch.bool, device=order.device)
    for i in range(len(order)):
        if alive[i]:
            removed = alive & (box_iou(boxes[i : i + 1], boxes)[0] >= iou_threshold)
            removed[: i + 1] = False
            removed[i] = True
            groups.append(order[removed])
            alive &= ~removed
    return groups


def soft_nms(
    boxes_px: Tensor,  # (M, 4)
    score: Tensor,  # (M,)
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: SoftMethod = "linear",
    group: Tensor | None = None,  # (M,)
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Suppression that lowers scores: each box taken, best first, multiplies those of the boxes it overlaps.

    Args:
        boxes_px, score, group, offset: as in :func:`nms`.
        iou_threshold: overlap from which ``naive`` (factor 0) and ``linear`` (factor 1 - IoU) act.
        sigma: ``gaussian`` has the factor exp(-IoU^2 / sigma) at every overlap.
        min_score: boxes that fall below are dropped.

    Returns:
        (K,) int64 indices in the order taken and (K,) their scores then.

    Raises:
        ValueError: unknown method, or shapes that do not fit.

    Reference: Bodla et al., Soft-NMS (ICCV 2017).
    """
    _check(boxes_px, score, group)
    if method not in ("naive", "linear", "gaussian"):
        raise ValueError(f"soft_nms: method is {method!r}, expected 'naive', 'linear' or 'gaussian'")
    return _soft_nms(boxes_px, score, group, iou_threshold, sigma, min_score, method, offset)


@torch.library.custom_op("bev::soft_nms", mutates_args=())
def _soft_nms(
    boxes_px: Tensor,
    score: Tensor,
    group: Tensor | None,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: str,
    offset: int,
) -> tuple[Tensor, Tensor]:
    # One box a step, each needing the scores of the last: numpy's calls are the cheaper ones.
    wide = torch.promote_types(boxes_px.dtype, torch.float32)
    boxes, labels = boxes_px.detach().cpu().to(wide), None if group is None else group.cpu().numpy()
    scores, left = score.detach().cpu().to(wide).numpy().copy(), np.arange(len(score))
    taken, taken_scores = [], []
    while len(left):
        best = left[scores[left].argmax()]
        taken.append(int(best))
        taken_scores.append(scores[best])
        left = left[left != best]
        factor = _factor(_iou_with(boxes.numpy(), best, left, offset), iou_threshold, sigma, method)
        if labels is not None:
            factor = np.where(labels[left] == labels[best], factor, 1)
        scores[left] *= factor
        left = left[scores[left] >= min_score]
    return (
        torch.tensor(taken, dtype=torch.int64, device=score.device),
        torch.tensor(np.array(taken_scores, dtype=scores.dtype), device=score.device).to(score.dtype),
    )


def _iou_with(boxes: np.ndarray, one: int, others: np.ndarray, offset: int) -> np.ndarray:
    first, second = boxes[one], boxes[others]
    low, high = np.maximum(first[:2], second[:, :2]), np.minimum(first[2:], second[:, 2:])
    intersection = np.clip(high - low + offset, 0, None).prod(1)
    area = (second[:, 2:] - second[:, :2] + offset).prod(1) + (first[2:] - first[:2] + offset).prod()
    union = area - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _factor(iou: np.ndarray, iou_threshold: float, sigma: float, method: str) -> np.ndarray:
    if method == "gaussian":
        return np.exp(-iou * iou / np.float32(sigma))
    lowered = 1 - iou if method == "linear" else np.zeros_like(iou)
    return np.where(iou >= iou_threshold, lowered, 1).astype(iou.dtype)


@_soft_nms.register_fake
def _(
    boxes_px: Tensor,
    score: Tensor,
    group: Tensor | None,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: str,
    offset: int,
) -> tuple[Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return score.new_empty(count, dtype=torch.int64), score.new_empty(count)
