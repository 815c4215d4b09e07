"""Mean of bilinear samples in the bins of regions, on the GPU: a tile of bins and channels of one region a program.

Maps are read as rows of channels (channels_last; other layouts are copied once), in their own precision; sums are
float32 at least.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bev.ops.triton.rows import compute_type

_BINS, _LANES = 16, 64  # sides of a tile


@triton.jit
def _axis(cells, size):  # type: ignore[no-untyped-def]
    """Cells before and after a point, its distance from the first, and whether it is read: up to one cell outside."""
    inside = (cells >= -1) & (cells <= size)
    cells = tl.minimum(tl.maximum(tl.where(inside, cells, 0.0), 0.0), size - 1)
    before = tl.floor(cells)
    index = before.to(tl.int32)
    return index, tl.minimum(index + 1, size - 1), cells - before, inside


@triton.jit
def _sample(  # type: ignore[no-untyped-def]
    frames, roi, row, column, sample, right, below, down, across, height, width
):
    """Both cells and the distance along y and x of one sample of every bin, and whether it is read."""
    center_x, center_y = tl.load(frames + 6 * roi), tl.load(frames + 6 * roi + 1)
    cos, sin = tl.load(frames + 6 * roi + 4), tl.load(frames + 6 * roi + 5)
    v = ((row * below + sample // right).to(center_x.dtype) + 0.5) / (down * below) - 0.5
    u = ((column * right + sample % right).to(center_x.dtype) + 0.5) / (across * right) - 0.5
    x, y = u * tl.load(frames + 6 * roi + 2), v * tl.load(frames + 6 * roi + 3)
    x0, x1, fx, inside_x = _axis(center_x + x * cos - y * sin, width)
    y0, y1, fy, inside_y = _axis(center_y + x * sin + y * cos, height)
    return y0, y1, fy, x0, x1, fx, inside_x & inside_y


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    maps, picture, frames, counts, out, batch, channels, height, width, down, across,
    BINS: tl.constexpr, LANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    roi = tl.program_id(0).to(tl.int64)
    bins, lane = tl.program_id(1) * BINS + tl.arange(0, BINS), tl.program_id(2) * LANES + tl.arange(0, LANES)
    number = tl.load(picture + roi)
    known = (number >= 0) & (number < batch)
    live = (bins < down * across) & known
    right, below = tl.load(counts + 2 * roi), tl.load(counts + 2 * roi + 1)
    total = tl.zeros((BINS, LANES), WIDE)
    for sample in range(right * below):
        y0, y1, fy, x0, x1, fx, inside = _sample(
            frames, roi, bins // across, bins % across, sample, right, below, down, across, height, width
        )
        for corner in tl.static_range(4):
            weight = (fx if corner % 2 else 1 - fx) * (fy if corner // 2 else 1 - fy)
            place = number * height * width + (y1 if corner // 2 else y0) * width + (x1 if corner % 2 else x0)
            mask = (inside & live)[:, None] & (lane < channels)[None]
            total += weight[:, None] * tl.load(maps + place[:, None] * channels + lane[None], mask, 0.0).to(WIDE)
    total = tl.where(known, total / tl.maximum(right * below, 1), float("nan"))
    place = (roi * channels + lane)[None] * (down * across) + bins[:, None]
    tl.store(out + place, total.to(out.dtype.element_ty), (bins < down * across)[:, None] & (lane < channels)[None])


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, picture, frames, counts, grad_maps, batch, channels, height, width, down, across,
    BINS: tl.constexpr, LANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    roi = tl.program_id(0).to(tl.int64)
    bins, lane = tl.program_id(1) * BINS + tl.arange(0, BINS), tl.program_id(2) * LANES + tl.arange(0, LANES)
    number = tl.load(picture + roi)
    live = (bins < down * across) & (number >= 0) & (number < batch)
    right, below = tl.load(counts + 2 * roi), tl.load(counts + 2 * roi + 1)
    source = (roi * channels + lane)[None] * (down * across) + bins[:, None]
    above = tl.load(grad + source, live[:, None] & (lane < channels)[None], 0.0).to(WIDE)
    above = above / tl.maximum(right * below, 1)
    for sample in range(right * below):
        y0, y1, fy, x0, x1, fx, inside = _sample(
            frames, roi, bins // across, bins % across, sample, right, below, down, across, height, width
        )
        for corner in tl.static_range(4):
            weight = (fx if corner % 2 else 1 - fx) * (fy if corner // 2 else 1 - fy)
            place = number * height * width + (y1 if corner // 2 else y0) * width + (x1 if corner % 2 else x0)
            mask = (inside & live)[:, None] & (lane < channels)[None]
            tl.atomic_add(grad_maps + place[:, None] * channels + lane[None], weight[:, None] * above, mask)


def _regions(picture: Tensor, frames: Tensor, down: int, across: int, sampling_ratio: int) -> tuple[Tensor, ...]:
    """Picture, frame and samples (across, down) a bin; regions that are not finite have no picture and no samples."""
    finite = frames.isfinite().all(1)
    if sampling_ratio > 0:
        counts = torch.full((len(frames), 2), sampling_ratio, dtype=torch.int32, device=frames.device)
    else:
        bins = (frames[:, 2:4] / frames.new_tensor([across, down])).ceil().clamp(min=0)
        counts = torch.where(finite[:, None], bins, 0).int()
    return torch.where(finite, picture, -1), frames.contiguous(), counts


def _launch(maps: Tensor, rois: int, down: int, across: int) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Grid, sizes and compile-time constants."""
    batch, channels, height, width = maps.shape
    lanes = min(_LANES, triton.next_power_of_2(channels))
    grid = rois, triton.cdiv(down * across, _BINS), triton.cdiv(channels, lanes)
    constants = {"BINS": _BINS, "LANES": lanes, "WIDE": compute_type(maps.dtype)}
    return grid, (batch, channels, height, width, down, across), constants


def forward(maps: Tensor, picture: Tensor, frames: Tensor, down: int, across: int, sampling_ratio: int) -> Tensor:
    """As ``bev.ops.roi_align._pool_reference`` in the maps' dtype; NaN where a region's picture is not in the batch."""
    out = maps.new_empty(len(picture), maps.shape[1], down, across)
    if out.numel():
        grid, sizes, constants = _launch(maps, len(picture), down, across)
        rows = maps.contiguous(memory_format=torch.channels_last)
        _forward[grid](rows, *_regions(picture, frames, down, across, sampling_ratio), out, *sizes, **constants)
    return out


def backward(grad: Tensor, maps: Tensor, picture: Tensor, frames: Tensor, sampling_ratio: int) -> Tensor:
    """Gradient of the maps, channels_last and in their dtype. Its sums are atomic, hence their order is not fixed."""
    batch, channels, height, width = maps.shape
    down, across = grad.shape[2:]
    wide = torch.promote_types(maps.dtype, torch.float32)
    total = maps.new_zeros(batch, height, width, channels, dtype=wide)
    if grad.numel():
        grid, sizes, constants = _launch(maps, len(picture), down, across)
        regions = _regions(picture, frames, down, across, sampling_ratio)
        _backward[grid](grad.contiguous(), *regions, total, *sizes, **constants)
    return total.permute(0, 3, 1, 2).to(maps.dtype)
