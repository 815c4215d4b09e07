"""Overlap of axis-aligned boxes, as compiled mmcv has it; areas are those of :mod:`bev.geometry.boxes2d`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bev.geometry.boxes2d import box_area, shared_area

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
    area1, area2 = (box_area(boxes, offset) for boxes in (first, second))
    return over(shared_area(first, second, offset), area1, area2, mode)


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
