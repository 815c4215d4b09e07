"""Overlap of axis-aligned boxes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

OverlapMode = Literal["iou", "iof"]


def box_iou(
    boxes1_px: Tensor, boxes2_px: Tensor, mode: OverlapMode = "iou", aligned: bool = False, offset: int = 0
) -> Tensor:
    """Intersection over union, or over the area of the first boxes.

    Args:
        boxes1_px: (M1, 4) x1, y1, x2, y2.
        boxes2_px: (M2, 4); M2 = M1 where aligned.
        mode: ``iou``, or ``iof`` (over the "foreground": the first boxes).
        aligned: box i against box i only.
        offset: 1 where x2 and y2 are the last pixels inside the box, as older data sets count; else 0.

    Returns:
        (M1, M2), or (M1,) where aligned; in the boxes' dtype. Boxes without area overlap nothing. Differentiable.

    Raises:
        ValueError: unknown mode, or aligned boxes that differ in number.
    """
    check_overlap_arguments("box_iou", len(boxes1_px), len(boxes2_px), mode, aligned)
    first, second = (boxes1_px, boxes2_px) if aligned else (boxes1_px[:, None], boxes2_px[None])
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low + offset).clamp(min=0).prod(-1)
    area1, area2 = (side_product(boxes, offset) for boxes in (first, second))
    return over(intersection, area1, area2, mode)


def side_product(boxes_px: Tensor, offset: int = 0) -> Tensor:
    """(..., 4) -> (...) area of axis-aligned boxes."""
    return (boxes_px[..., 2] - boxes_px[..., 0] + offset) * (boxes_px[..., 3] - boxes_px[..., 1] + offset)


def over(intersection: Tensor, area1: Tensor, area2: Tensor, mode: OverlapMode) -> Tensor:
    """Intersection areas as a share of the union, or of the first area; 0 where that is empty."""
    base = area1 + area2 - intersection if mode == "iou" else area1.expand_as(intersection)
    return torch.where(base > 0, intersection / torch.where(base > 0, base, 1), 0)


def check_overlap_arguments(name: str, count1: int, count2: int, mode: str, aligned: bool) -> None:
    """Raise ``ValueError`` for an unknown mode or aligned boxes that differ in number."""
    if mode not in ("iou", "iof"):
        raise ValueError(f"{name}: mode is {mode!r}, expected 'iou' or 'iof'")
    if aligned and count1 != count2:
        raise ValueError(f"{name}: aligned boxes must be as many on both sides, got {count1} and {count2}")
