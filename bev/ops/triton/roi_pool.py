"""Largest value of every bin of regions on the GPU: a bin and a block of channels a program."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_LANES = 128  # channels a program


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    maps, picture, rows, columns, out, source, batch, channels, height, width, down, across, LANES: tl.constexpr
):
    """Ties: the first cell. A value that is no number is the largest."""
    roi = tl.program_id(0).to(tl.int64)
    i, j = tl.program_id(1) // across, tl.program_id(1) % across
    lane = tl.program_id(2) * LANES + tl.arange(0, LANES)
    number = tl.load(picture + roi)
    known = (number >= 0) & (number < batch)
    top, bottom = tl.load(rows + (roi * down + i) * 2), tl.load(rows + (roi * down + i) * 2 + 1)
    left, right = tl.load(columns + (roi * across + j) * 2), tl.load(columns + (roi * across + j) * 2 + 1)
    best, place = tl.zeros((LANES,), maps.dtype.element_ty), tl.full((LANES,), -1, tl.int64)
    wide, first = tl.maximum(right - left, 1), top * width + left
    cells = tl.where(known, tl.maximum(bottom - top, 0) * tl.maximum(right - left, 0), 0)
    for step in range(cells):
        cell = first + step // wide * width + step % wide
        value = tl.load(maps + (number * height * width + cell) * channels + lane, lane < channels, 0.0)
        more = (place < 0) | (value > best) | ((value != value) & (best == best))
        best, place = tl.where(more, value, best), tl.where(more, cell, place)
    target = ((roi * channels + lane) * down + i) * across + j
    tl.store(out + target, tl.where(known, best, float("nan")).to(out.dtype.element_ty), lane < channels)
    tl.store(source + target, place, lane < channels)


def forward(maps: Tensor, picture: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`bev.ops.roi_pool.roi_pool_with_source`, of int64 first and one past the last cell of every bin.

    Args:
        maps: (B, C, H, W).
        picture: (M,) int64; regions of a picture that is not in the batch become NaN.
        rows: (M, bins down, 2).
        columns: (M, bins across, 2).
    """
    (batch, channels, height, width), down, across = maps.shape, rows.shape[1], columns.shape[1]
    out = torch.empty(len(picture), channels, down, across, dtype=maps.dtype, device=maps.device)
    source = torch.empty_like(out, dtype=torch.int64)
    if out.numel():
        lanes = min(_LANES, triton.next_power_of_2(channels))
        grid = len(picture), down * across, triton.cdiv(channels, lanes)
        inputs = maps.contiguous(memory_format=torch.channels_last), picture, rows.contiguous(), columns.contiguous()
        _forward[grid](*inputs, out, source, batch, channels, height, width, down, across, LANES=lanes)
    return out, source
