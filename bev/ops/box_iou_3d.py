"""Overlap of upright 3D boxes, in the ground plane and in space, and suppression by it.

Boxes are rows x, y, z, l, w, h, yaw: gravity centre and size in m, yaw in rad counter-clockwise from +x, the columns of
``Boxes3D`` side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops.nms import nms
from bev.ops.rotated_iou import box_iou_rotated, nms_rotated, rotated_intersection

_BEV = [0, 1, 3, 4, 6]  # x, y, l, w, yaw
_LEAST_VOLUME_M3 = 1e-6  # of a union: boxes without volume overlap nothing


def box_overlap_bev(boxes1_m: Tensor, boxes2_m: Tensor) -> Tensor:
    """Area in m^2 that boxes (M1, 7) and (M2, 7) share seen from above -> (M1, M2). Differentiable."""
    return rotated_intersection(_columns(boxes1_m, _BEV), _columns(boxes2_m, _BEV))


def box_iou_bev(boxes1_m: Tensor, boxes2_m: Tensor) -> Tensor:
    """Intersection over union seen from above of boxes (M1, 7) and (M2, 7) -> (M1, M2). Differentiable."""
    return box_iou_rotated(_columns(boxes1_m, _BEV), _columns(boxes2_m, _BEV))


def box_iou_3d(boxes1_m: Tensor, boxes2_m: Tensor) -> Tensor:
    """Intersection over union in space.

    Args:
        boxes1_m: (M1, 7), see the module.
        boxes2_m: (M2, 7).

    Returns:
        (M1, M2) float32 (float64 for float64 boxes). Differentiable.

    Raises:
        ValueError: boxes of fewer than seven columns.
    """
    area = box_overlap_bev(boxes1_m, boxes2_m)
    (z1, h1), (z2, h2) = (_columns(boxes, [2, 5]).unbind(1) for boxes in (boxes1_m, boxes2_m))
    top = torch.minimum((z1 + h1 / 2)[:, None], z2 + h2 / 2)
    bottom = torch.maximum((z1 - h1 / 2)[:, None], z2 - h2 / 2)
    shared = area * (top - bottom).clamp(min=0)
    volume1, volume2 = (_columns(boxes, [3, 4, 5]).prod(1) for boxes in (boxes1_m, boxes2_m))
    return shared / (volume1[:, None] + volume2 - shared).clamp(min=_LEAST_VOLUME_M3)


def nms_bev(
    boxes_m: Tensor,  # (M, 7)
    score: Tensor,  # (M,)
    iou_threshold: float,
    group: Tensor | None = None,  # (M,)
    rotated: bool = True,
) -> Tensor:
    """Greedy suppression by overlap seen from above.

    Args:
        boxes_m: see the module.
        group: int64, usually the class; boxes of different groups do not touch each other.
        rotated: False compares the boxes as if their yaw were zero: quicker, for boxes that were made so.

    Returns:
        (K,) int64 indices of the kept boxes, by falling score (ties: lower index first).

    Raises:
        ValueError: shapes that do not fit.
    """
    flat = _columns(boxes_m, _BEV)
    if rotated:
        return nms_rotated(flat, score, iou_threshold, group)
    center, half = flat[:, :2], flat[:, 2:4] / 2
    return nms(torch.cat([center - half, center + half], 1), score, iou_threshold, group)


def _columns(boxes_m: Tensor, columns: list[int]) -> Tensor:
    if boxes_m.ndim != 2 or boxes_m.shape[1] < 7:
        raise ValueError(f"expected boxes (M, 7) x, y, z, l, w, h, yaw, got {tuple(boxes_m.shape)}")
    return boxes_m[:, columns].to(torch.promote_types(boxes_m.dtype, torch.float32))
