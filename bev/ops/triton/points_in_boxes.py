"""Points in boxes on the GPU: a tile of (point, box) pairs at a time, nothing in memory but the answer."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_POINTS, _BOXES = 128, 16  # sides of a tile


@triton.jit
def _inside(points, boxes, frame, point, box, count, number):  # type: ignore[no-untyped-def]
    """(P, M) membership: top and bottom belong to a box, the sides do not."""
    here, there = point < count, box < number
    at, row = points + 3 * (frame * count + point), boxes + 7 * (frame * number + box)
    x = tl.load(at, here, 0.0)[:, None] - tl.load(row, there, 0.0)[None]
    y = tl.load(at + 1, here, 0.0)[:, None] - tl.load(row + 1, there, 0.0)[None]
    z = tl.load(at + 2, here, 0.0)[:, None] - tl.load(row + 2, there, 0.0)[None]
    length, width = tl.load(row + 3, there, 0.0)[None], tl.load(row + 4, there, 0.0)[None]
    height, yaw = tl.load(row + 5, there, 0.0)[None], tl.load(row + 6, there, 0.0)
    cos, sin = tl.cos(yaw)[None], tl.sin(yaw)[None]
    along, across = x * cos + y * sin, y * cos - x * sin
    inside = (2 * tl.abs(along) < length) & (2 * tl.abs(across) < width) & (2 * tl.abs(z) <= height)
    return inside & here[:, None] & there[None]


@triton.jit
def _members(  # type: ignore[no-untyped-def]
    points, boxes, out, count, number, POINTS: tl.constexpr, BOXES: tl.constexpr
):
    frame = tl.program_id(2).to(tl.int64)
    point, box = tl.program_id(0) * POINTS + tl.arange(0, POINTS), tl.program_id(1) * BOXES + tl.arange(0, BOXES)
    inside = _inside(points, boxes, frame, point, box, count, number)
    place = (frame * count + point)[:, None] * number + box[None]
    tl.store(out + place, inside.to(tl.int8), (point < count)[:, None] & (box < number)[None])


@triton.jit
def _first(  # type: ignore[no-untyped-def]
    points, boxes, out, count, number, POINTS: tl.constexpr, BOXES: tl.constexpr
):
    frame = tl.program_id(1).to(tl.int64)
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    first = tl.full((POINTS,), number, tl.int32)
    for start in range(0, number, BOXES):
        box = start + tl.arange(0, BOXES)
        inside = _inside(points, boxes, frame, point, box, count, number)
        first = tl.minimum(first, tl.min(tl.where(inside, box[None], number), 1))
    tl.store(out + frame * count + point, tl.where(first < number, first, -1).to(tl.int64), point < count)


def members(points_m: Tensor, boxes_m: Tensor) -> Tensor:
    """As :func:`bev.ops.points_in_boxes.points_in_boxes` for float32; not empty."""
    batch, count, number = len(points_m), points_m.shape[1], boxes_m.shape[1]
    out = torch.empty(batch, count, number, dtype=torch.bool, device=points_m.device)
    grid = triton.cdiv(count, _POINTS), triton.cdiv(number, _BOXES), batch
    inputs = points_m.contiguous(), boxes_m.contiguous(), out.view(torch.int8)
    _members[grid](*inputs, count, number, POINTS=_POINTS, BOXES=_BOXES, enable_fp_fusion=False)
    return out


def first_box(points_m: Tensor, boxes_m: Tensor) -> Tensor:
    """As :func:`bev.ops.points_in_boxes.box_of_points` for float32; not empty."""
    batch, count, number = len(points_m), points_m.shape[1], boxes_m.shape[1]
    out = torch.empty(batch, count, dtype=torch.int64, device=points_m.device)
    inputs = points_m.contiguous(), boxes_m.contiguous(), out
    sizes = {"POINTS": _POINTS, "BOXES": _BOXES}
    _first[(triton.cdiv(count, _POINTS), batch)](*inputs, count, number, **sizes, enable_fp_fusion=False)
    return out
