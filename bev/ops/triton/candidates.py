"""Best boxes of a head on the GPU: blocks of scores are ranked, then the blocks' best; the last ranking decodes.

A score and its place are one 64-bit key: the bits of a sigmoid rise with it, and among equal scores the lower place has
the larger key. Keys are unique, so every ranking is the same in every run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048  # keys that one program ranks, at least
WARPS = 16  # of a program that ranks: a sort is unrolled over the keys of a thread, so there should be few
_PI = tl.constexpr(math.pi)


@triton.jit
def _key(score, index, live):  # type: ignore[no-untyped-def]
    """Keys of float32 scores that are not negative; NaN is the largest, as in ``torch.sort``."""
    bits = tl.where(score == score, score, float("inf")).to(tl.int32, bitcast=True)
    bits = tl.where(score == score, bits, 0x7FC00000)
    return tl.where(live, (bits.to(tl.int64) << 32) | (0xFFFFFFFF - index), -1)


@triton.jit
def _sigmoid(logit):  # type: ignore[no-untyped-def]
    return 1.0 / (1.0 + tl.exp(-logit))


@triton.jit
def _rank_scores(  # type: ignore[no-untyped-def]
    logits, per_frame, step, width, height,
    out,
    PEAKS: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The best KEEP keys of a block of logits."""
    frame = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    index = tl.program_id(0).to(tl.int64) * BLOCK + lane
    live = index < per_frame
    here = logits + frame * step + index
    score = _sigmoid(tl.load(here, live, 0.0).to(tl.float32))
    if PEAKS:
        x, y = index % width, (index // width) % height
        highest = score
        for side in tl.static_range(9):
            dx, dy = side % 3 - 1, side // 3 - 1
            inside = live & (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
            other = _sigmoid(tl.load(here + dy * width + dx, inside, float("-inf")).to(tl.float32))
            highest = tl.where((other > highest) | (other != other), other, highest)  # NaN wins and stays
        score = tl.where(score == highest, score, 0.0)
    ranked = tl.sort(_key(score, index, live), descending=True)
    tl.store(out + (frame * tl.num_programs(0) + tl.program_id(0)) * KEEP + lane, ranked, lane < KEEP)


@triton.jit
def _rank_keys(keys, per_frame, out, KEEP: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The best KEEP of a block of keys."""
    frame = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    index = tl.program_id(0) * BLOCK + lane
    ranked = tl.sort(tl.load(keys + frame * per_frame + index, index < per_frame, -1), descending=True)
    tl.store(out + (frame * tl.num_programs(0) + tl.program_id(0)) * KEEP + lane, ranked, lane < KEEP)


@triton.jit
def _last(keys, per_frame, frame, lane):  # type: ignore[no-untyped-def]
    """Scores and places of the ranked keys of a frame."""
    ranked = tl.sort(tl.load(keys + frame * per_frame + lane, lane < per_frame, -1), descending=True)
    return (ranked >> 32).to(tl.int32).to(tl.float32, bitcast=True), 0xFFFFFFFF - (ranked & 0xFFFFFFFF)


@triton.jit
def _atan2(y, x):  # type: ignore[no-untyped-def]
    """Within 3e-7 rad of the arc tangent: the interpreter knows no library function for it.

    The argument is brought below tan(pi / 8), where the odd polynomial is that of the Cephes library's atanf.
    """
    high, low = tl.maximum(tl.abs(x), tl.abs(y)), tl.minimum(tl.abs(x), tl.abs(y))
    share = low / tl.where(high > 0, high, 1.0)
    far = share > 0.41421356
    t = tl.where(far, (share - 1) / (share + 1), share)
    z = t * t
    poly = ((8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1) * z - 3.33329491539e-1
    angle = poly * z * t + t + tl.where(far, _PI / 4, 0.0)
    angle = tl.where(tl.abs(y) > tl.abs(x), _PI / 2 - angle, angle)
    angle = tl.where(x < 0, _PI - angle, angle)
    angle = tl.where(y < 0, -angle, angle)
    return tl.where((x == x) & (y == y), angle, float("nan"))


@triton.jit
def _wrap(angle):  # type: ignore[no-untyped-def]
    """Into [-pi, pi)."""
    turned = angle + _PI
    return turned - tl.floor(turned / (2 * _PI)) * (2 * _PI) - _PI


@triton.jit
def _write(  # type: ignore[no-untyped-def]
    boxes, entry, live, limits, x, y, z, first, second, tall, yaw, vx, vy,
    LEGACY: tl.constexpr, LIMITED: tl.constexpr,
):  # fmt: skip
    """Store nine columns; whether the centre is inside the limits."""
    if LEGACY:
        first, second, yaw = second, first, _wrap(-yaw - _PI / 2)
    place = boxes + entry * 9
    tl.store(place, x, live)
    tl.store(place + 1, y, live)
    tl.store(place + 2, z, live)
    tl.store(place + 3, first, live)
    tl.store(place + 4, second, live)
    tl.store(place + 5, tall, live)
    tl.store(place + 6, yaw, live)
    tl.store(place + 7, vx, live)
    tl.store(place + 8, vy, live)
    inside = live
    if LIMITED:
        x0, y0, z0, x1, y1, z1 = limits
        inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1) & (z >= z0) & (z <= z1)
    return inside


@triton.jit
def _finish_queries(  # type: ignore[no-untyped-def]
    keys, codes, per_frame, count, queries, classes, threshold, limits,
    boxes, scores, labels, valid,
    CODE: tl.constexpr, LEGACY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    frame = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    live = lane < count
    score, index = _last(keys, per_frame, frame, lane)
    entry = frame * count + lane
    row = codes + (frame * queries + index // classes) * CODE
    x, y = tl.load(row, live, 0.0).to(tl.float32), tl.load(row + 1, live, 0.0).to(tl.float32)
    first = tl.exp(tl.load(row + 2, live, 0.0).to(tl.float32))
    second = tl.exp(tl.load(row + 3, live, 0.0).to(tl.float32))
    z, tall = tl.load(row + 4, live, 0.0).to(tl.float32), tl.exp(tl.load(row + 5, live, 0.0).to(tl.float32))
    yaw = _atan2(tl.load(row + 6, live, 0.0).to(tl.float32), tl.load(row + 7, live, 0.0).to(tl.float32))
    vx, vy = x * float("nan"), x * float("nan")
    if CODE == 10:
        vx, vy = tl.load(row + 8, live, 0.0).to(tl.float32), tl.load(row + 9, live, 0.0).to(tl.float32)
    inside = _write(boxes, entry, live, limits, x, y, z, first, second, tall, yaw, vx, vy, LEGACY, True)
    tl.store(scores + entry, score, live)
    tl.store(labels + entry, index % classes, live)
    tl.store(valid + entry, (inside & (score >= threshold)).to(tl.int8), live)


@triton.jit
def _finish_cells(  # type: ignore[no-untyped-def]
    keys, columns, steps, per_frame, count, width, cells, threshold, grid, limits,
    boxes, scores, labels, valid,
    LEGACY: tl.constexpr, LIMITED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    frame = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    live = lane < count
    score, index = _last(keys, per_frame, frame, lane)
    entry = frame * count + lane
    cell = index % cells
    x0, y0, step_x, step_y, largest = grid
    dx = tl.load(columns[0] + frame * steps[0] + cell, live, 0.0).to(tl.float32)
    dy = tl.load(columns[1] + frame * steps[1] + cell, live, 0.0).to(tl.float32)
    z = tl.load(columns[2] + frame * steps[2] + cell, live, 0.0).to(tl.float32)
    first = tl.load(columns[3] + frame * steps[3] + cell, live, 0.0).to(tl.float32)
    second = tl.load(columns[4] + frame * steps[4] + cell, live, 0.0).to(tl.float32)
    tall = tl.load(columns[5] + frame * steps[5] + cell, live, 0.0).to(tl.float32)
    sin = tl.load(columns[6] + frame * steps[6] + cell, live, 0.0).to(tl.float32)
    cos = tl.load(columns[7] + frame * steps[7] + cell, live, 0.0).to(tl.float32)
    vx = tl.load(columns[8] + frame * steps[8] + cell, live, 0.0).to(tl.float32)
    vy = tl.load(columns[9] + frame * steps[9] + cell, live, 0.0).to(tl.float32)
    x, y = ((cell % width).to(tl.float32) + dx) * step_x + x0, ((cell // width).to(tl.float32) + dy) * step_y + y0
    # A comparison, not a minimum: what is not a number stays so.
    first = tl.exp(tl.where(first > largest, largest, first))
    second = tl.exp(tl.where(second > largest, largest, second))
    tall = tl.exp(tl.where(tall > largest, largest, tall))
    yaw = _wrap(_atan2(sin, cos))
    inside = _write(boxes, entry, live, limits, x, y, z, first, second, tall, yaw, vx, vy, LEGACY, LIMITED)
    tl.store(scores + entry, score, live)
    tl.store(labels + entry, index // cells, live)
    tl.store(valid + entry, (inside & (score > threshold)).to(tl.int8), live)


def _ranked(logits: Tensor, count: int, peaks: bool) -> tuple[Tensor, int, int]:
    """Keys among which each frame's best ``count`` are, how many a frame, and the block that ranks them all.

    Args:
        logits: (B, ...), each frame dense in memory; (B, classes, Y, X) where peaks are asked for.
    """
    batch, per_frame = len(logits), logits[0].numel()
    block = max(BLOCK, 4 * triton.next_power_of_2(count))
    keep, height, width = min(count, per_frame), logits.shape[-2], logits.shape[-1]
    chunks = triton.cdiv(per_frame, block)
    keys = torch.empty(batch, chunks * keep, dtype=torch.int64, device=logits.device)
    sizes = per_frame, logits.stride(0), width, height
    _rank_scores[(chunks, batch)](logits, *sizes, keys, PEAKS=peaks, KEEP=keep, BLOCK=block, num_warps=WARPS)
    while keys.shape[1] > block:
        chunks = triton.cdiv(keys.shape[1], block)
        fewer = keys.new_empty(batch, chunks * keep)
        _rank_keys[(chunks, batch)](keys, keys.shape[1], fewer, KEEP=keep, BLOCK=block, num_warps=WARPS)
        keys = fewer
    return keys, keep, block


def _results(batch: int, count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows: dict[str, Any] = {"device": device}
    boxes, score = torch.empty(batch, count, 9, **rows), torch.empty(batch, count, **rows)
    label, valid = (torch.empty(batch, count, dtype=dtype, **rows) for dtype in (torch.int64, torch.int8))
    return boxes, score, label, valid


def of_queries(
    logits: Tensor, codes: Tensor, count: int, limits: Sequence[float], score_threshold: float, legacy: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`bev.ops.candidates._query_reference`; not empty."""
    logits, codes = logits.contiguous(), codes.contiguous()
    keys, keep, block = _ranked(logits, count, peaks=False)
    results = _results(len(logits), keep, logits.device)
    sizes = keys.shape[1], keep, logits.shape[1], logits.shape[2], float(score_threshold), tuple(limits)
    _finish_queries[(len(logits),)](
        keys, codes, *sizes, *results, CODE=codes.shape[2], LEGACY=legacy, BLOCK=block, num_warps=WARPS
    )
    return (*results[:3], results[3].bool())


def of_cells(
    heatmap: Tensor,
    maps: Sequence[Tensor],
    count: int,
    numbers: Sequence[float],
    score_threshold: float,
    peaks: bool,
    legacy: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`bev.ops.candidates._center_reference`; not empty."""
    heatmap, parts = heatmap.contiguous(), [part.contiguous() for part in maps]
    keys, keep, block = _ranked(heatmap, count, peaks)
    results = _results(len(heatmap), keep, heatmap.device)
    columns = tuple(part[:, channel] for part in parts for channel in range(part.shape[1]))
    steps = tuple(column.stride(0) for column in columns)
    height, width = heatmap.shape[2:]
    limits = tuple(float(x) for x in numbers[5:]) or (0.0,) * 6
    sizes = keys.shape[1], keep, width, height * width, float(score_threshold), tuple(float(x) for x in numbers[:5])
    constants = {"LEGACY": legacy, "LIMITED": len(numbers) > 5, "BLOCK": block, "num_warps": WARPS}
    _finish_cells[(len(heatmap),)](keys, columns, steps, *sizes, limits, *results, **constants)
    return (*results[:3], results[3].bool())
