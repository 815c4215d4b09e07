"""Lift-splat pooling on the GPU: one program a cell forwards, one a pixel backwards; no atomics, no volume."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_LANES = 64  # channels a program of the forward pass, at most
_STEP = 8  # points of a cell at a time: their rows are read at once
_BINS = 16  # depth bins at a time in the gradient


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    depth, features, order, offsets,
    rows, cells,
    out,
    BINS: tl.constexpr, CHANNELS: tl.constexpr, LANES: tl.constexpr, STEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0).to(tl.int64)
    frame = tl.program_id(2).to(tl.int64)  # of those that share a plan
    depth += frame * rows * BINS
    features += frame * rows * CHANNELS
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    total = tl.zeros((LANES,), WIDE)
    end = tl.load(offsets + cell + 1)
    for start in range(tl.load(offsets + cell), end, STEP):
        entry = start + tl.arange(0, STEP)
        point = tl.load(order + entry, entry < end, 0).to(tl.int64)
        weight = tl.load(depth + point, entry < end, 0.0).to(WIDE)
        mask = (entry < end)[:, None] & (lane < CHANNELS)[None]
        row = tl.load(features + (point // BINS)[:, None] * CHANNELS + lane[None], mask, 0.0).to(WIDE)
        total += tl.sum(weight[:, None] * row, 0)
    tl.store(out + (frame * cells + cell) * CHANNELS + lane, total.to(out.dtype.element_ty), lane < CHANNELS)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, depth, features, cell_of_point, grad_depth, grad_features, cells,
    BINS: tl.constexpr, CHANNELS: tl.constexpr, LANES: tl.constexpr, STEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, LANES)
    row = tl.load(features + pixel * CHANNELS + lane, lane < CHANNELS, 0.0).to(WIDE)
    total = tl.zeros((LANES,), WIDE)
    for start in range(0, BINS, STEP):
        bins = start + tl.arange(0, STEP)
        point = pixel * BINS + bins
        cell = tl.load(cell_of_point + point, bins < BINS, cells)
        mask = (cell < cells)[:, None] & (lane < CHANNELS)[None]
        above = tl.load(grad + cell[:, None] * CHANNELS + lane[None], mask, 0.0).to(WIDE)
        total += tl.sum(tl.load(depth + point, bins < BINS, 0.0).to(WIDE)[:, None] * above, 0)
        by_depth = tl.sum(above * row[None], 1)
        tl.store(grad_depth + point, by_depth.to(grad_depth.dtype.element_ty), bins < BINS)
    tl.store(grad_features + pixel * CHANNELS + lane, total.to(grad_features.dtype.element_ty), lane < CHANNELS)


def _wide(tensor: Tensor) -> tl.dtype:
    """What sums are kept in."""
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32


def constants(bins: int, channels: int) -> dict[str, Any]:
    """Compile-time constants of the forward pass but the accumulator's type."""
    lanes = min(_LANES, triton.next_power_of_2(channels))
    return {"BINS": bins, "CHANNELS": channels, "LANES": lanes, "STEP": _STEP}


def forward(depth: Tensor, features: Tensor, order: Tensor, offsets: Tensor) -> Tensor:
    """As :func:`bev.ops.bev_pool._bev_pool_reference`, by a plan's order and offsets.

    Depth and features may be of any float dtypes; the sums are float32 at least, and the result is as the features.
    """
    cells, channels = len(offsets) - 1, features.shape[1]
    out = features.new_empty(cells, channels)
    if out.numel():
        sizes = constants(max(1, depth.shape[1]), channels) | {"WIDE": _wide(features)}
        grid = cells, triton.cdiv(channels, sizes["LANES"]), 1
        inputs = depth.contiguous(), features.contiguous(), order, offsets
        _forward[grid](*inputs, len(depth), cells, out, **sizes)
    return out


def backward(grad: Tensor, depth: Tensor, features: Tensor, cell_of_point: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of depth and features, in their dtypes; without atomics, so the same in every run."""
    depth, features = depth.contiguous(), features.contiguous()
    grad_depth, grad_features = torch.zeros_like(depth), torch.zeros_like(features)
    if depth.numel() and features.numel():
        inputs = grad.contiguous(), depth, features, cell_of_point.contiguous(), grad_depth, grad_features
        channels = features.shape[1]
        constants = {"BINS": depth.shape[1], "CHANNELS": channels, "STEP": _BINS, "WIDE": _wide(features)}
        _backward[(len(depth),)](*inputs, len(grad), **constants, LANES=triton.next_power_of_2(channels))
    return grad_depth, grad_features
