"""Overlap and forms of axis-aligned boxes in an image, as pure torch functions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Overlap = Literal["iou", "iof", "giou"]
_SMALLEST_AREA = 1e-6


def box_area(xyxy: Tensor, offset: int = 0) -> Tensor:
    """(..., 4) left, top, right, bottom -> (...) width times height.

    ``offset`` is 1 where right and bottom are the last pixels inside a box, as older data sets count.
    """
    return (xyxy[..., 2] - xyxy[..., 0] + offset) * (xyxy[..., 3] - xyxy[..., 1] + offset)


def shared_area(first: Tensor, second: Tensor, offset: int = 0) -> Tensor:
    """(..., 4) corners twice, broadcast -> (...) area that both cover; ``offset`` as of :func:`box_area`."""
    low, high = torch.max(first[..., :2], second[..., :2]), torch.min(first[..., 2:], second[..., 2:])
    sides = (high - low + offset).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def to_center_size(xyxy: Tensor) -> Tensor:
    """(..., 4) corners -> (..., 4) centre x, centre y, width, height."""
    low, high = xyxy[..., :2], xyxy[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def to_corners(center_size: Tensor) -> Tensor:
    """(..., 4) centre x, centre y, width, height -> (..., 4) corners."""
    center, half = center_size[..., :2], center_size[..., 2:] / 2
    return torch.cat([center - half, center + half], -1)


def overlap(first: Tensor, second: Tensor, kind: Overlap = "iou", eps: float = _SMALLEST_AREA) -> Tensor:
    """Overlap of boxes, broadcast over leading axes, as heads, assigners and losses are published with it: denominators
    have a least area (:func:`bev.ops.box_iou` is compiled mmcv's, which has none).

    Args:
        first, second: (..., 4) corners in one unit.
        kind: ``iou`` intersection over union; ``iof`` intersection over the area of ``first``; ``giou`` the IoU less
            the share of the hull that neither covers (Rezatofighi et al., CVPR 2019).
        eps: least area of a denominator.

    Returns:
        (...); iou and iof in [0, 1], giou in [-1, 1]. Boxes without area overlap nothing.
    """
    shared, area = shared_area(first, second), box_area(first)
    union = area if kind == "iof" else area + box_area(second) - shared
    union = union.clamp(min=eps)
    ratio = shared / union
    if kind != "giou":
        return ratio
    hull = (torch.max(first[..., 2:], second[..., 2:]) - torch.min(first[..., :2], second[..., :2])).clamp(min=0)
    hull_area = (hull[..., 0] * hull[..., 1]).clamp(min=eps)
    return ratio - (hull_area - union) / hull_area


def pairwise_overlap(first: Tensor, second: Tensor, kind: Overlap = "iou") -> Tensor:
    """(M, 4) and (K, 4) corners -> (M, K); see :func:`overlap`."""
    return overlap(first[:, None], second[None], kind)


def contains(xyxy: Tensor, points: Tensor) -> Tensor:
    """How far points are inside boxes.

    Args:
        xyxy: (M, 4).
        points: (P, 2) x, y.

    Returns:
        (P, M) distance to the nearest side, positive inside.
    """
    low = points[:, None] - xyxy[None, :, :2]
    high = xyxy[None, :, 2:] - points[:, None]
    return torch.cat([low, high], -1).amin(-1)
