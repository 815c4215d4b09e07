"""Deformable attention with softmax and reference points inside: a block of (query, head) rows a program.

The order of every kernel's arguments is inputs, sizes, outputs, constants: what TensorRT asks of plugins compiled
ahead of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bev.ops.folded_deformable_attention import reference_gradient
from bev.ops.triton.deformable_attention import _axis, _levels

ROWS = 16  # rows a program


@triton.jit
def _softmax(  # type: ignore[no-untyped-def]
    logits, base, live, COUNT: tl.constexpr, SAMPLES: tl.constexpr, WIDE: tl.constexpr
):
    """Largest logit of each row, and the sum of the exponentials of what all lie below it."""
    sample = tl.arange(0, SAMPLES)
    mask = live[:, None] & (sample < COUNT)[None]
    raw = tl.load(logits + base[:, None] + sample[None], mask, float("-inf")).to(WIDE)
    peak = tl.where(live, tl.max(raw, 1), 0.0)
    return peak, tl.where(live, tl.sum(tl.exp(raw - peak[:, None]), 1), 1.0)


@triton.jit
def _location(  # type: ignore[no-untyped-def]
    reference, offsets, query, sample, base, level, point, live, height, width,
    POINTS: tl.constexpr, DEALT: tl.constexpr, OWN: tl.constexpr, BOX: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Location as a share of the map and, for both axes, how far it moves for a step of one of the offset."""
    near = reference + ((query * OWN + (level if OWN > 1 else 0)) * DEALT + point % DEALT) * (4 if BOX else 2)
    x, y = tl.load(near, live, 0.0).to(WIDE), tl.load(near + 1, live, 0.0).to(WIDE)
    dx = tl.load(offsets + base + 2 * sample, live, 0.0).to(WIDE)
    dy = tl.load(offsets + base + 2 * sample + 1, live, 0.0).to(WIDE)
    if BOX:
        step_x = tl.load(near + 2, live, 0.0).to(WIDE) * 0.5 / POINTS
        step_y = tl.load(near + 3, live, 0.0).to(WIDE) * 0.5 / POINTS
        return x + dx * step_x, y + dy * step_y, dx, dy, step_x, step_y
    step_x, step_y = (tl.zeros_like(x) + 1.0) / width, (tl.zeros_like(y) + 1.0) / height
    return x + dx / width, y + dy / height, dx, dy, step_x, step_y


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    value, levels, reference, offsets, logits,
    rows, queries, value_step, offset_b, offset_q, offset_h, logit_b, logit_q, logit_h,
    out,
    HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr, CHANNELS: tl.constexpr, DEALT: tl.constexpr,
    OWN: tl.constexpr, BOX: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
    SAMPLES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, LANES)
    live = row < rows
    head, query = row % HEADS, row // HEADS
    frame = query // queries
    table = frame * value_step + head * CHANNELS
    by_offset = frame * offset_b + (query % queries) * offset_q + head * offset_h
    by_logit = frame * logit_b + (query % queries) * logit_q + head * logit_h
    peak, whole = _softmax(logits, by_logit, live, LEVELS * POINTS, SAMPLES, WIDE)
    total = tl.zeros((ROWS, LANES), WIDE)
    for level in range(LEVELS):
        height, width = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
        start = tl.load(levels + 3 * level + 2)
        for point in range(POINTS):
            sample = level * POINTS + point
            x, y, _, _, _, _ = _location(
                reference, offsets, query, sample, by_offset, level, point, live, height, width,
                POINTS, DEALT, OWN, BOX, WIDE,
            )  # fmt: skip
            x0, fx, left, right = _axis(x, width)
            y0, fy, top, bottom = _axis(y, height)
            weight = tl.exp(tl.load(logits + by_logit + sample, live, 0.0).to(WIDE) - peak) / whole
            weight = tl.where((x == x) & (y == y), weight, float("nan"))
            for corner in tl.static_range(4):
                inside = live & (right if corner % 2 else left) & (bottom if corner // 2 else top)
                share = weight * (fx if corner % 2 else 1 - fx) * (fy if corner // 2 else 1 - fy)
                place = table + (start + (y0 + corner // 2) * width + x0 + corner % 2).to(tl.int64) * HEADS * CHANNELS
                mask = inside[:, None] & (lane < CHANNELS)[None]
                read = tl.load(value + place[:, None] + lane[None], mask, 0.0).to(WIDE)
                total += share[:, None] * read
    mask = live[:, None] & (lane < CHANNELS)[None]
    tl.store(out + row[:, None] * CHANNELS + lane[None], total.to(out.dtype.element_ty), mask)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, result, value, levels, reference, offsets, logits,
    rows, queries, pixels, value_step, offset_b, offset_q, offset_h, logit_b, logit_q, logit_h,
    grad_value, grad_locations, grad_offsets, grad_logits,
    HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr, CHANNELS: tl.constexpr, DEALT: tl.constexpr,
    OWN: tl.constexpr, BOX: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
    SAMPLES: tl.constexpr, MOVES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, LANES)
    live = row < rows
    head, query = row % HEADS, row // HEADS
    frame = query // queries
    table = frame * value_step + head * CHANNELS
    grad_table = (frame * pixels * HEADS + head) * CHANNELS
    by_offset = frame * offset_b + (query % queries) * offset_q + head * offset_h
    by_logit = frame * logit_b + (query % queries) * logit_q + head * logit_h
    peak, whole = _softmax(logits, by_logit, live, LEVELS * POINTS, SAMPLES, WIDE)
    here = row[:, None] * CHANNELS + lane[None]
    inner = live[:, None] & (lane < CHANNELS)[None]
    above = tl.load(grad + here, inner, 0.0).to(WIDE)
    # What all weights of a row together owe to their sum being one.
    mean = tl.sum(above * tl.load(result + here, inner, 0.0).to(WIDE), 1)
    for level in range(LEVELS):
        height, width = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
        start = tl.load(levels + 3 * level + 2)
        for point in range(POINTS):
            sample = level * POINTS + point
            x, y, _, _, step_x, step_y = _location(
                reference, offsets, query, sample, by_offset, level, point, live, height, width,
                POINTS, DEALT, OWN, BOX, WIDE,
            )  # fmt: skip
            x0, fx, left, right = _axis(x, width)
            y0, fy, top, bottom = _axis(y, height)
            weight = tl.exp(tl.load(logits + by_logit + sample, live, 0.0).to(WIDE) - peak) / whole
            weight = tl.where((x == x) & (y == y), weight, float("nan"))
            by_weight, by_x, by_y = tl.zeros_like(weight), tl.zeros_like(weight), tl.zeros_like(weight)
            for corner in tl.static_range(4):
                inside = live & (right if corner % 2 else left) & (bottom if corner // 2 else top)
                wx, wy = (fx if corner % 2 else 1 - fx), (fy if corner // 2 else 1 - fy)
                pixel = (start + (y0 + corner // 2) * width + x0 + corner % 2).to(tl.int64) * HEADS * CHANNELS
                mask = inside[:, None] & (lane < CHANNELS)[None]
                read = tl.load(value + (table + pixel)[:, None] + lane[None], mask, 0.0).to(WIDE)
                product = tl.sum(above * read, 1)
                into = (grad_table + pixel)[:, None] + lane[None]
                tl.atomic_add(grad_value + into, above * (weight * wx * wy)[:, None], mask)
                by_weight += wx * wy * product
                by_x += (wy if corner % 2 else -wy) * product
                by_y += (wx if corner // 2 else -wx) * product
            entry = row * (LEVELS * POINTS) + sample
            by_x, by_y = by_x * weight * width, by_y * weight * height
            narrow = grad_offsets.dtype.element_ty
            tl.store(grad_offsets + 2 * entry, (by_x * step_x).to(narrow), live)
            tl.store(grad_offsets + 2 * entry + 1, (by_y * step_y).to(narrow), live)
            by_logits = weight * (by_weight - mean)
            tl.store(grad_logits + entry, by_logits.to(grad_logits.dtype.element_ty), live)
            if MOVES:
                tl.store(grad_locations + 2 * entry, by_x, live)
                tl.store(grad_locations + 2 * entry + 1, by_y, live)


def _rowwise(tensor: Tensor, inner: int) -> Tensor:
    """The tensor itself where its last ``inner`` axes lie densely in memory, else a contiguous copy."""
    dense = 1
    for axis in range(tensor.ndim - 1, tensor.ndim - 1 - inner, -1):
        if tensor.shape[axis] != 1 and tensor.stride(axis) != dense:
            return tensor.contiguous()
        dense *= tensor.shape[axis]
    return tensor


def constants(heads: int, levels: int, points: int, channels: int, reference: Sequence[int]) -> dict[str, Any]:
    """Compile-time constants but the accumulator's type; ``reference`` are the sizes (L or 1, D, 2 or 4)."""
    sizes = {"HEADS": heads, "LEVELS": levels, "POINTS": points, "CHANNELS": channels, "DEALT": reference[1]}
    widths = {"LANES": triton.next_power_of_2(channels), "SAMPLES": triton.next_power_of_2(levels * points)}
    return {**sizes, "OWN": reference[0], "BOX": reference[2] == 4, "ROWS": ROWS, **widths}


def _launch(value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor) -> tuple[Any, ...]:
    """Number of programs, rows and queries, steps in elements, and constants of a launch."""
    _, queries, heads, levels, points = logits.shape
    rows = logits.shape[0] * queries * heads
    wide = tl.float64 if value.dtype == torch.float64 else tl.float32
    sizes = constants(heads, levels, points, value.shape[3], reference.shape[2:]) | {"WIDE": wide}
    steps = (value.stride(0), *offsets.stride()[:3], *logits.stride()[:3])
    return (triton.cdiv(rows, ROWS),), (rows, queries), steps, sizes


def forward(
    value: Tensor, heights: Sequence[int], widths: Sequence[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """As :func:`bev.ops.folded_deformable_attention._composed`; tensors not empty, of any float dtypes."""
    value, reference = _rowwise(value, 3), reference.contiguous()
    offsets, logits = _rowwise(offsets, 3), _rowwise(logits, 2)
    grid, counts, steps, sizes = _launch(value, reference, offsets, logits)
    out = value.new_empty(*logits.shape[:2], value.shape[2] * value.shape[3])
    levels = _levels(heights, widths, value.device)
    _forward[grid](value, levels, reference, offsets, logits, *counts, *steps, out, **sizes)
    return out


def backward(
    grad: Tensor,
    out: Tensor,
    value: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    moves: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of value, reference (zeros unless ``moves``), offsets and logits, in their dtypes.

    Sums into the gradient of value are atomic, in float32 at least, in no fixed order; the others are exact repeats.
    """
    value, reference = _rowwise(value, 3), reference.contiguous()
    offsets, logits = _rowwise(offsets, 3), _rowwise(logits, 2)
    grid, counts, steps, sizes = _launch(value, reference, offsets, logits)
    wide = torch.promote_types(value.dtype, torch.float32)
    by_value = value.new_zeros(value.shape, dtype=wide)
    by_offsets, by_logits = offsets.new_empty(offsets.shape), logits.new_empty(logits.shape)
    by_locations = offsets.new_empty(offsets.shape if moves else (0,), dtype=wide)
    inputs = grad.contiguous(), out.contiguous(), value, _levels(heights, widths, value.device), reference
    outputs = by_value, by_locations, by_offsets, by_logits
    _backward[grid](
        *inputs, offsets, logits, *counts, value.shape[1], *steps, *outputs, **sizes, MOVES=moves
    )
    by_reference = reference_gradient(by_locations, reference, offsets) if moves else torch.zeros_like(reference)
    return by_value.to(value.dtype), by_reference, by_offsets, by_logits
