"""Suppression and rotated overlap on the GPU: overlaps as 64-wide words of bits, decided on the device.

The first kernel gives each box, sorted by falling score, one bit for every later box that it would remove; the second
walks through the boxes once, with the words of what is removed in registers. Nothing is copied to the host but which
boxes are left. Sums and products are not contracted, so that decisions are those of the torch form.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_BOXES = 1 << 16  # beyond it the words of bits, M * M / 8 bytes, are not worth their memory
_ROWS = 16  # boxes a program of the first kernel
_TILE = 32  # boxes along both sides of a tile of overlaps
_SMALLEST_AREA = tl.constexpr(1e-14)  # bev.ops.rotated_iou._SMALLEST_AREA


@triton.jit
def _upright(boxes, i, j, here, there, OFFSET: tl.constexpr):  # type: ignore[no-untyped-def]
    """IoU of axis-aligned boxes i and j, (I, J)."""
    left1, top1 = tl.load(boxes + 4 * i, here, 0.0), tl.load(boxes + 4 * i + 1, here, 0.0)
    right1, bottom1 = tl.load(boxes + 4 * i + 2, here, 0.0), tl.load(boxes + 4 * i + 3, here, 0.0)
    left2, top2 = tl.load(boxes + 4 * j, there, 0.0), tl.load(boxes + 4 * j + 1, there, 0.0)
    right2, bottom2 = tl.load(boxes + 4 * j + 2, there, 0.0), tl.load(boxes + 4 * j + 3, there, 0.0)
    width = tl.minimum(right1[:, None], right2[None]) - tl.maximum(left1[:, None], left2[None]) + OFFSET
    height = tl.minimum(bottom1[:, None], bottom2[None]) - tl.maximum(top1[:, None], top2[None]) + OFFSET
    shared = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    area1 = (right1 - left1 + OFFSET) * (bottom1 - top1 + OFFSET)
    area2 = (right2 - left2 + OFFSET) * (bottom2 - top2 + OFFSET)
    base = area1[:, None] + area2[None] - shared
    return tl.where(base > 0, tl.div_rn(shared, tl.where(base > 0, base, 1.0)), 0.0)


@triton.jit
def _clamp(value, limit):  # type: ignore[no-untyped-def]
    return tl.minimum(tl.maximum(value, -limit), limit)


@triton.jit
def _under_edge(x0, y0, x1, y1, right, top):  # type: ignore[no-untyped-def]
    """As ``bev.ops.rotated_iou._under_edge``: integral of clamp(y, -top, top) dx over -right <= x <= right."""
    start, end = _clamp(x0, right), _clamp(x1, right)
    slope = tl.div_rn(y1 - y0, tl.where(x1 == x0, 1.0, x1 - x0))
    low, high = tl.minimum(y0, y1), tl.maximum(y0, y1)
    first = tl.minimum(tl.maximum(y0 + (start - x0) * slope, low), high)
    last = tl.minimum(tl.maximum(y1 + (end - x1) * slope, low), high)
    rise = last - first
    flat = rise == 0
    safe = tl.where(flat, 1.0, rise)
    a, b = _clamp(first, top), _clamp(last, top)
    above = tl.div_rn(tl.maximum(last, top) - tl.maximum(first, top), safe)
    below = tl.div_rn(tl.minimum(last, -top) - tl.minimum(first, -top), safe)
    mean = tl.where(flat, a, tl.div_rn(b - a, safe) * (a + b) / 2 + (above - below) * top)
    return (end - start) * mean


@triton.jit
def _shared(boxes1, boxes2, i, j, here, there):  # type: ignore[no-untyped-def]
    """Area shared by rotated boxes i and j (I, J), and their own areas (I,) and (J,)."""
    x1, y1 = tl.load(boxes1 + 5 * i, here, 0.0), tl.load(boxes1 + 5 * i + 1, here, 0.0)
    w1, h1 = tl.load(boxes1 + 5 * i + 2, here, 0.0), tl.load(boxes1 + 5 * i + 3, here, 0.0)
    x2, y2 = tl.load(boxes2 + 5 * j, there, 0.0), tl.load(boxes2 + 5 * j + 1, there, 0.0)
    w2, h2 = tl.load(boxes2 + 5 * j + 2, there, 0.0), tl.load(boxes2 + 5 * j + 3, there, 0.0)
    turn1, turn2 = tl.load(boxes1 + 5 * i + 4, here, 0.0), tl.load(boxes2 + 5 * j + 4, there, 0.0)
    apart_x, apart_y = x1[:, None] - x2[None], y1[:, None] - y2[None]
    reach = (tl.sqrt(w1 * w1 + h1 * h1) / 2)[:, None] + (tl.sqrt(w2 * w2 + h2 * h2) / 2)[None]
    near = apart_x * apart_x + apart_y * apart_y <= reach * reach * (1 + 1e-5)
    cos, sin = tl.cos(turn2)[None], tl.sin(turn2)[None]
    x, y = apart_x * cos + apart_y * sin, apart_y * cos - apart_x * sin
    turn = turn1[:, None] - turn2[None]
    cos, sin = tl.cos(turn), tl.sin(turn)
    half_w, half_h = (tl.abs(w1) / 2)[:, None], (tl.abs(h1) / 2)[:, None]
    ax, ay, bx, by = half_w * cos, half_w * sin, -half_h * sin, half_h * cos
    right, top = (tl.abs(w2) / 2)[None] + x * 0, (tl.abs(h2) / 2)[None] + x * 0
    total = _under_edge(x + ax + bx, y + ay + by, x - ax + bx, y - ay + by, right, top)
    total += _under_edge(x - ax + bx, y - ay + by, x - ax - bx, y - ay - by, right, top)
    total += _under_edge(x - ax - bx, y - ay - by, x + ax - bx, y + ay - by, right, top)
    total += _under_edge(x + ax - bx, y + ay - by, x + ax + bx, y + ay + by, right, top)
    return tl.where(near, tl.maximum(0.0 - total, 0.0), 0.0), w1 * h1, w2 * h2


@triton.jit
def _rotated(boxes, i, j, here, there):  # type: ignore[no-untyped-def]
    """IoU of rotated boxes i and j, (I, J)."""
    shared, area1, area2 = _shared(boxes, boxes, i, j, here, there)
    base = area1[:, None] + area2[None] - shared
    solid = (area1 >= _SMALLEST_AREA)[:, None] & (area2 >= _SMALLEST_AREA)[None] & (base > 0)
    return tl.where(solid, tl.div_rn(shared, tl.where(base > 0, base, 1.0)), 0.0)


@triton.jit
def _words(  # type: ignore[no-untyped-def]
    boxes, groups, count, words, threshold,
    out,
    GROUPED: tl.constexpr, ROTATED: tl.constexpr, OFFSET: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    word = tl.program_id(1)
    i, j = tl.program_id(0) * ROWS + tl.arange(0, ROWS), word * 64 + tl.arange(0, 64)
    here, there = i < count, j < count
    if (word + 1) * 64 > tl.program_id(0) * ROWS:  # words before a box's own are never read
        if ROTATED:
            overlap = _rotated(boxes, i, j, here, there)
        else:
            overlap = _upright(boxes, i, j, here, there, OFFSET)
        removes = (overlap > threshold) & (j[None] > i[:, None]) & there[None]
        if GROUPED:
            removes = removes & (tl.load(groups + i, here, 0)[:, None] == tl.load(groups + j, there, 0)[None])
        bits = tl.sum(removes.to(tl.int64) << tl.arange(0, 64).to(tl.int64)[None], 1)
        tl.store(out + i.to(tl.int64) * words + word, bits, here)


@triton.jit
def _decide(bits, count, words, out, LANES: tl.constexpr):  # type: ignore[no-untyped-def]
    lane = tl.arange(0, LANES)
    origin = tl.program_id(0).to(tl.int64)  # 0, in 64 bits
    removed = tl.zeros((LANES,), tl.int64)
    for word in range(words):
        gone = tl.sum(tl.where(lane == word, removed, 0), 0)
        for bit in range(64):
            i = origin + word * 64 + bit
            alive = (i < count) & (((gone >> bit) & 1) == 0)
            if alive:
                row = bits + i * words
                removed |= tl.load(row + lane, (lane > word) & (lane < words), 0)
                gone |= tl.load(row + word)
            tl.store(out + i, alive.to(tl.int8), i < count)


@triton.jit
def _areas(boxes1, boxes2, count1, count2, out, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    i, j = tl.program_id(0) * TILE + tl.arange(0, TILE), tl.program_id(1) * TILE + tl.arange(0, TILE)
    here, there = i < count1, j < count2
    shared, _, _ = _shared(boxes1, boxes2, i, j, here, there)
    tl.store(out + i.to(tl.int64)[:, None] * count2 + j[None], shared, here[:, None] & there[None])


def fits(boxes: Tensor) -> bool:
    """Whether these kernels take the boxes: float32, and not too many."""
    return boxes.dtype == torch.float32 and len(boxes) <= MOST_BOXES


def keep(boxes: Tensor, groups: Tensor | None, iou_threshold: float, rotated: bool, offset: int = 0) -> Tensor:
    """Which of M boxes, sorted by falling score, survive greedy suppression.

    Args:
        boxes: (M, 5) float32 x, y, w, h, angle from +x to +y where rotated, else (M, 4) x1, y1, x2, y2.
        groups: (M,) int64 or None.
        iou_threshold: boxes of a larger IoU with a kept one are removed.
        rotated: which of the two.
        offset: see :func:`bev.ops.box_iou.box_iou`.

    Returns:
        (K,) int64 positions, rising.
    """
    count = len(boxes)
    if not count:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    boxes, words = boxes.contiguous(), triton.cdiv(count, 64)
    bits = torch.empty(count, words, dtype=torch.int64, device=boxes.device)
    alive = torch.empty(count, dtype=torch.int8, device=boxes.device)
    labels = boxes if groups is None else groups.contiguous()
    constants = {"GROUPED": groups is not None, "ROTATED": rotated, "OFFSET": offset, "ROWS": _ROWS}
    grid = triton.cdiv(count, _ROWS), words
    _words[grid](boxes, labels, count, words, float(iou_threshold), bits, **constants, enable_fp_fusion=False)
    _decide[(1,)](bits, count, words, alive, LANES=triton.next_power_of_2(words))
    return alive.nonzero().squeeze(1)


def rotated_areas(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """(M1, 5) and (M2, 5) float32 x, y, w, h, angle from +x to +y -> (M1, M2) shared area."""
    out = boxes1.new_empty(len(boxes1), len(boxes2))
    if out.numel():
        grid = triton.cdiv(len(boxes1), _TILE), triton.cdiv(len(boxes2), _TILE)
        sides = boxes1.contiguous(), boxes2.contiguous(), len(boxes1), len(boxes2)
        _areas[grid](*sides, out, TILE=_TILE, enable_fp_fusion=False)
    return out
