"""Multi-scale deformable attention on the GPU: a block of (query, head) rows a program, channels across its lanes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS = 16  # rows a program


@triton.jit
def _axis(share, size):  # type: ignore[no-untyped-def]
    """Cell before a point, its distance from it, and whether that cell and the next lie inside the map."""
    cells = tl.minimum(tl.maximum(tl.where(share == share, share * size - 0.5, -2.0), -2.0), size + 1.0)
    before = tl.floor(cells)
    index = before.to(tl.int32)
    return index, cells - before, (index >= 0) & (index < size), (index >= -1) & (index < size - 1)


@triton.jit
def _weight(pointer, x, y, live):  # type: ignore[no-untyped-def]
    """A sample's weight; NaN where its location is, which is inside nowhere and yet must show in the result."""
    weight = tl.load(pointer, live, 0.0)
    return tl.where((x == x) & (y == y), weight, float("nan"))


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    value, levels, locations, weights, out, rows, queries, pixels,
    HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr, CHANNELS: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, LANES)
    live = row < rows
    table = (row // (HEADS * queries)) * pixels * HEADS + row % HEADS
    total = tl.zeros((ROWS, LANES), out.dtype.element_ty)
    for level in range(LEVELS):
        height, width = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
        start = tl.load(levels + 3 * level + 2)
        for point in range(POINTS):
            sample = (row * LEVELS + level) * POINTS + point
            x, y = tl.load(locations + 2 * sample, live, 0.0), tl.load(locations + 2 * sample + 1, live, 0.0)
            x0, fx, left, right = _axis(x, width)
            y0, fy, top, bottom = _axis(y, height)
            weight = _weight(weights + sample, x, y, live)
            for corner in tl.static_range(4):
                inside = live & (right if corner % 2 else left) & (bottom if corner // 2 else top)
                share = weight * (fx if corner % 2 else 1 - fx) * (fy if corner // 2 else 1 - fy)
                place = (table + (start + (y0 + corner // 2) * width + x0 + corner % 2) * HEADS) * CHANNELS
                mask = inside[:, None] & (lane < CHANNELS)[None]
                read = tl.load(value + place[:, None] + lane[None], mask, 0.0)
                total += share[:, None] * read
    tl.store(out + row[:, None] * CHANNELS + lane[None], total, live[:, None] & (lane < CHANNELS)[None])


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, value, levels, locations, weights, grad_value, grad_locations, grad_weights, rows, queries, pixels,
    HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr, CHANNELS: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, LANES)
    live = row < rows
    table = (row // (HEADS * queries)) * pixels * HEADS + row % HEADS
    above = tl.load(grad + row[:, None] * CHANNELS + lane[None], live[:, None] & (lane < CHANNELS)[None], 0.0)
    for level in range(LEVELS):
        height, width = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
        start = tl.load(levels + 3 * level + 2)
        for point in range(POINTS):
            sample = (row * LEVELS + level) * POINTS + point
            x, y = tl.load(locations + 2 * sample, live, 0.0), tl.load(locations + 2 * sample + 1, live, 0.0)
            x0, fx, left, right = _axis(x, width)
            y0, fy, top, bottom = _axis(y, height)
            weight = _weight(weights + sample, x, y, live)
            by_weight, by_x, by_y = tl.zeros_like(weight), tl.zeros_like(weight), tl.zeros_like(weight)
            for corner in tl.static_range(4):
                inside = live & (right if corner % 2 else left) & (bottom if corner // 2 else top)
                wx, wy = (fx if corner % 2 else 1 - fx), (fy if corner // 2 else 1 - fy)
                place = (table + (start + (y0 + corner // 2) * width + x0 + corner % 2) * HEADS) * CHANNELS
                place = place[:, None] + lane[None]
                mask = inside[:, None] & (lane < CHANNELS)[None]
                product = tl.sum(above * tl.load(value + place, mask, 0.0), 1)
                tl.atomic_add(grad_value + place, above * (weight * wx * wy)[:, None], mask)
                by_weight += wx * wy * product
                by_x += (wy if corner % 2 else -wy) * product
                by_y += (wx if corner // 2 else -wx) * product
            tl.store(grad_weights + sample, by_weight, live)
            tl.store(grad_locations + 2 * sample, by_x * weight * width, live)
            tl.store(grad_locations + 2 * sample + 1, by_y * weight * height, live)


def _levels(heights: Sequence[int], widths: Sequence[int], device: torch.device) -> Tensor:
    """(L, 3) int32 height, width and first pixel; kept, so that only a first call copies anything to the device."""
    return _level_table(tuple(heights), tuple(widths), device)


@lru_cache(maxsize=64)
def _level_table(heights: tuple[int, ...], widths: tuple[int, ...], device: torch.device) -> Tensor:
    table, start = [], 0
    for height, width in zip(heights, widths):
        table.append([height, width, start])
        start += height * width
    return torch.tensor(table, dtype=torch.int32).to(device)


def _sizes(value: Tensor, attention_weights: Tensor) -> tuple[int, tuple[int, int, int], dict[str, int]]:
    """Programs, the rows, queries and pixels, and the compile-time constants of a launch."""
    _, queries, heads, levels, points = attention_weights.shape
    channels, rows = value.shape[3], attention_weights.shape[0] * queries * heads
    constants = {"HEADS": heads, "LEVELS": levels, "POINTS": points, "CHANNELS": channels}
    constants |= {"ROWS": _ROWS, "LANES": triton.next_power_of_2(channels)}
    return triton.cdiv(rows, _ROWS), (rows, queries, value.shape[1]), constants


def forward(
    value: Tensor, heights: Sequence[int], widths: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """As :func:`bev.ops.deformable_attention._attention_reference`; all tensors of one dtype, not empty."""
    batch, queries, heads = attention_weights.shape[:3]
    out = value.new_empty(batch, queries, heads * value.shape[3])
    programs, sizes, constants = _sizes(value, attention_weights)
    inputs = value.contiguous(), _levels(heights, widths, value.device), sampling_locations.contiguous()
    _forward[(programs,)](*inputs, attention_weights.contiguous(), out, *sizes, **constants)
    return out


def backward(
    grad: Tensor,
    value: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights. Sums into value are atomic, hence their order is not fixed."""
    tensors = [x.contiguous() for x in (value, sampling_locations, attention_weights)]
    grads = torch.zeros_like(tensors[0]), torch.empty_like(tensors[1]), torch.empty_like(tensors[2])
    programs, sizes, constants = _sizes(value, attention_weights)
    levels = _levels(heights, widths, value.device)
    _backward[(programs,)](grad.contiguous(), tensors[0], levels, *tensors[1:], *grads, *sizes, **constants)
    return grads
