"""Which boxes every point of a batch lies in."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops.exporting import is_exporting
from bev.ops.triton import takes

_PAIRS = 1 << 18  # (point, box) pairs at a time: their temporaries stay in the cache


def points_in_boxes(points_m: Tensor, boxes_m: Tensor) -> Tensor:
    """Membership of every point in every box.

    Args:
        points_m: (B, P, 3) x, y, z.
        boxes_m: (B, M, 7) gravity centre x, y, z, then l, w, h, then yaw in rad counter-clockwise from +x.

    Returns:
        (B, P, M) bool. Top and bottom count as inside, the sides do not, as in mmcv
        (:func:`bev.geometry.boxes.points_in_boxes`, which counts as nuScenes does, takes all faces as inside).

    Raises:
        ValueError: shapes that do not fit.
    """
    batch, count, boxes = _shape(points_m, boxes_m)
    if _kernels_take(points_m, boxes_m):
        return _members(points_m.detach(), boxes_m.detach())
    result = torch.zeros(batch, count, boxes, dtype=torch.bool, device=points_m.device)
    step = max(1, _PAIRS // max(1, batch * boxes))
    for start in range(0, count, step):
        result[:, start : start + step] = _inside(points_m[:, start : start + step], boxes_m)
    return result


def box_of_points(points_m: Tensor, boxes_m: Tensor) -> Tensor:
    """(B, P) int64 first box that each point lies in, -1 where none; arguments as in :func:`points_in_boxes`."""
    batch, count, boxes = _shape(points_m, boxes_m)
    if not boxes:
        return torch.full((batch, count), -1, device=points_m.device)
    if _kernels_take(points_m, boxes_m):
        return _first_box(points_m.detach(), boxes_m.detach())
    inside = points_in_boxes(points_m, boxes_m)
    return torch.where(inside.any(-1), inside.byte().argmax(-1), -1)


def _kernels_take(points_m: Tensor, boxes_m: Tensor) -> bool:
    single = points_m.dtype == boxes_m.dtype == torch.float32
    return takes(points_m.device) and single and not is_exporting() and bool(points_m.numel() and boxes_m.numel())


@torch.library.custom_op("bev::points_in_boxes", mutates_args=())
def _members(points_m: Tensor, boxes_m: Tensor) -> Tensor:
    """The Triton kernel, one node of a compiled graph."""
    from bev.ops.triton import points_in_boxes as kernels

    return kernels.members(points_m, boxes_m)


@_members.register_fake
def _(points_m: Tensor, boxes_m: Tensor) -> Tensor:
    return points_m.new_empty(*points_m.shape[:2], boxes_m.shape[1], dtype=torch.bool)


@torch.library.custom_op("bev::box_of_points", mutates_args=())
def _first_box(points_m: Tensor, boxes_m: Tensor) -> Tensor:
    """The Triton kernel, one node of a compiled graph."""
    from bev.ops.triton import points_in_boxes as kernels

    return kernels.first_box(points_m, boxes_m)


@_first_box.register_fake
def _(points_m: Tensor, boxes_m: Tensor) -> Tensor:
    return points_m.new_empty(points_m.shape[:2], dtype=torch.int64)


def _shape(points_m: Tensor, boxes_m: Tensor) -> tuple[int, int, int]:
    fits = points_m.ndim == boxes_m.ndim == 3 and len(points_m) == len(boxes_m)
    if not fits or points_m.shape[2] != 3 or boxes_m.shape[2] != 7:
        shapes = f"{tuple(points_m.shape)} and {tuple(boxes_m.shape)}"
        raise ValueError(f"points_in_boxes: expected points (B, P, 3) and boxes (B, M, 7), got {shapes}")
    return len(points_m), points_m.shape[1], boxes_m.shape[1]


def _inside(points_m: Tensor, boxes_m: Tensor) -> Tensor:
    x, y, z = (points_m[:, :, None] - boxes_m[:, None, :, :3]).unbind(-1)
    length, width, height, yaw = boxes_m[:, None, :, 3:].unbind(-1)
    cos, sin = yaw.cos(), yaw.sin()
    along, across = x * cos + y * sin, y * cos - x * sin
    return (2 * along.abs() < length) & (2 * across.abs() < width) & (2 * z.abs() <= height)
