"""Overlap of rotated boxes, and suppression by it.

The intersection of a polygon with an axis-aligned rectangle is an integral along its boundary:
``-sum over edges of integral of clamp(y, bottom, top) dx`` over the part of the edge between left and right. Seen from
the second box the first one is such a polygon, so that four edges give the area in closed form: continuous in every
argument, no clipping, no sorting of corners, no special case where corners or edges coincide.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops.box_iou import OverlapMode, check_overlap_arguments, over
from bev.ops.greedy import by_score, greedy_keep
from bev.ops.triton import takes

_PAIRS = 1 << 15  # pairs at a time: their temporaries stay in the cache
_SMALLEST_AREA = 1e-14  # below it a box overlaps nothing


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, mode: OverlapMode = "iou", aligned: bool = False, clockwise: bool = True
) -> Tensor:
    """Intersection over union of rotated boxes, or over the area of the first ones.

    Args:
        boxes1: (M1, 5) x, y, w, h in any one unit of length, angle in rad.
        boxes2: (M2, 5); M2 = M1 where aligned.
        mode: ``iou``, or ``iof`` (over the first boxes' area).
        aligned: box i against box i only.
        clockwise: the angle turns from +x towards +y, which is clockwise where y points down as in images and
            counter-clockwise where y points up as in the ground plane; False: the other way.

    Returns:
        (M1, M2), or (M1,) where aligned; float32 (float64 for float64 boxes). Differentiable. A box whose w * h is not
        positive overlaps nothing.

    Raises:
        ValueError: unknown mode, or aligned boxes that differ in number.
    """
    check_overlap_arguments("box_iou_rotated", len(boxes1), len(boxes2), mode, aligned)
    first, second = _prepare(boxes1, clockwise), _prepare(boxes2, clockwise)
    intersection = rotated_intersection(first, second, aligned)
    area1, area2 = first[:, 2] * first[:, 3], second[:, 2] * second[:, 3]
    if not aligned:
        area1, area2 = area1[:, None], area2[None]
    solid = (area1 >= _SMALLEST_AREA) & (area2 >= _SMALLEST_AREA)
    return torch.where(solid, over(intersection, area1, area2, mode), 0)


def _prepare(boxes: Tensor, clockwise: bool) -> Tensor:
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
    return boxes if clockwise else torch.cat([boxes[:, :4], -boxes[:, 4:]], 1)


def rotated_intersection(boxes1: Tensor, boxes2: Tensor, aligned: bool = False) -> Tensor:
    """Area shared by boxes (M1, 5) and (M2, 5) x, y, w, h, angle from +x to +y -> (M1, M2), or (M1,) where aligned."""
    if aligned:
        return _intersection(boxes1, boxes2)
    if torch.is_grad_enabled() and (boxes1.requires_grad or boxes2.requires_grad):
        return _intersection(boxes1[:, None], boxes2[None])
    return _pairwise_intersection(boxes1, boxes2)


@torch.library.custom_op("bev::rotated_intersection", mutates_args=())
def _pairwise_intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Only pairs whose circumscribed circles meet are computed: few of those that a detector proposes."""
    if takes(boxes1.device) and boxes1.dtype == boxes2.dtype == torch.float32:
        from bev.ops.triton import suppression as kernels

        return kernels.rotated_areas(boxes1, boxes2)
    result = boxes1.new_zeros(len(boxes1), len(boxes2))
    radius1, radius2 = boxes1[:, 2:4].norm(dim=1) / 2, boxes2[:, 2:4].norm(dim=1) / 2
    rows = max(1, _PAIRS * 32 // max(1, len(boxes2)))
    for start in range(0, len(boxes1), rows):
        part = slice(start, start + rows)
        # The differences themselves, not |a|^2 + |b|^2 - 2ab, which loses what far from the origin decides.
        apart = (boxes1[part, None, :2] - boxes2[None, :, :2]).square().sum(-1)
        near = apart <= (radius1[part, None] + radius2).square() * (1 + 1e-5)
        for pairs in near.nonzero().split(_PAIRS):
            i, j = pairs.unbind(1)
            result[start + i, j] = _intersection(boxes1[start + i], boxes2[j])
    return result


@_pairwise_intersection.register_fake
def _(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    return boxes1.new_empty(len(boxes1), len(boxes2))


def _intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """(..., 5) and (..., 5) -> (...) shared area; plain, differentiable, any leading shapes that broadcast."""
    apart = boxes1[..., :2] - boxes2[..., :2]
    cos, sin = boxes2[..., 4].cos(), boxes2[..., 4].sin()
    x, y = apart[..., 0] * cos + apart[..., 1] * sin, apart[..., 1] * cos - apart[..., 0] * sin
    turn = boxes1[..., 4] - boxes2[..., 4]
    cos, sin = turn.cos(), turn.sin()
    half_w, half_h = boxes1[..., 2].abs() / 2, boxes1[..., 3].abs() / 2
    ax, ay, bx, by = half_w * cos, half_w * sin, -half_h * sin, half_h * cos
    corners = [(x + ax + bx, y + ay + by), (x - ax + bx, y - ay + by)]
    corners += [(x - ax - bx, y - ay - by), (x + ax - bx, y + ay - by)]
    right, top = boxes2[..., 2].abs() / 2, boxes2[..., 3].abs() / 2
    total = torch.zeros_like(x)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
        total = total + _under_edge(x0, y0, x1, y1, right, top)
    return (0 - total).clamp(min=0)


def _under_edge(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, right: Tensor, top: Tensor) -> Tensor:
    """Integral of clamp(y, -top, top) dx along an edge, over -right <= x <= right."""
    start, end = _clamp(x0, right), _clamp(x1, right)
    slope = (y1 - y0) / torch.where(x1 == x0, 1, x1 - x0)  # a vertical edge covers no x
    low, high = torch.minimum(y0, y1), torch.maximum(y0, y1)
    # Between the edge's own ends: a steep slope must not carry rounding beyond them.
    first = (y0 + (start - x0) * slope).clamp(low, high)
    last = (y1 + (end - x1) * slope).clamp(low, high)
    return (end - start) * _mean_of_clamped(first, last, top)


def _mean_of_clamped(first: Tensor, last: Tensor, top: Tensor) -> Tensor:
    """Mean of clamp(v, -top, top) for v running evenly from ``first`` to ``last``."""
    rise = last - first
    flat = rise == 0
    safe = torch.where(flat, 1, rise)
    a, b = _clamp(first, top), _clamp(last, top)
    within = (b - a) / safe
    # Shares of the run; differences of the ends themselves, so that a run wholly above has exactly the share 1.
    above = (torch.maximum(last, top) - torch.maximum(first, top)) / safe
    below = (torch.minimum(last, -top) - torch.minimum(first, -top)) / safe
    return torch.where(flat, a, within * (a + b) / 2 + (above - below) * top)


def _clamp(value: Tensor, limit: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(value, -limit), limit)


def nms_rotated(
    boxes: Tensor,  # (M, 5)
    score: Tensor,  # (M,)
    iou_threshold: float,
    group: Tensor | None = None,  # (M,)
    clockwise: bool = True,
) -> Tensor:
    """Greedy suppression of lower-scored rotated boxes that overlap a kept one by more than a threshold.

    Args:
        boxes, clockwise: as in :func:`box_iou_rotated`.
        score: any float dtype.
        group: int64, usually the class; boxes of different groups do not touch each other.

    Returns:
        (K,) int64 indices of the kept boxes, by falling score (ties: lower index first).

    Raises:
        ValueError: shapes that do not fit.
    """
    if boxes.shape != (len(boxes), 5) or score.shape != boxes.shape[:1]:
        raise ValueError(f"nms_rotated: expected (M, 5) and (M,), got {tuple(boxes.shape)} and {tuple(score.shape)}")
    return _nms_rotated(_prepare(boxes.detach(), clockwise), score.detach(), group, iou_threshold)


@torch.library.custom_op("bev::nms_rotated", mutates_args=())
def _nms_rotated(boxes: Tensor, score: Tensor, group: Tensor | None, iou_threshold: float) -> Tensor:
    order = by_score(score)
    boxes, labels = boxes[order], None if group is None else group[order]
    if takes(boxes.device):
        from bev.ops.triton import suppression as kernels

        if kernels.fits(boxes):
            return order[kernels.keep(boxes, labels, iou_threshold, rotated=True)]

    def suppresses(i: Tensor, j: Tensor) -> Tensor:
        near = box_iou_rotated(boxes[i], boxes[j]) > iou_threshold
        return near if labels is None else near & (labels[i, None] == labels[j])

    return order[greedy_keep(len(order), suppresses, order.device)]


@_nms_rotated.register_fake
def _(boxes: Tensor, score: Tensor, group: Tensor | None, iou_threshold: float) -> Tensor:
    return score.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)
