"""Bias and activation in one pass, and their gradients in one."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bev.ops.triton.rows import compute_type, matrix, row_chunks

_ROWS, _LANES = 16, 128  # a program's tile


@triton.jit
def _activate(value, GELU: tl.constexpr):  # type: ignore[no-untyped-def]
    """NaN stays NaN."""
    if GELU:
        return value * 0.5 * (1 + tl.erf(value * 0.7071067811865476))
    return tl.where(value <= 0, 0.0, value)


@triton.jit
def _slope(value, GELU: tl.constexpr):  # type: ignore[no-untyped-def]
    if GELU:
        density = tl.exp(-0.5 * value * value) * 0.3989422804014327
        return 0.5 * (1 + tl.erf(value * 0.7071067811865476)) + value * density
    return tl.where(value <= 0, 0.0, 1.0)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    x, bias, out, rows, columns, GELU: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, WIDE: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * LANES + tl.arange(0, LANES)
    place = row[:, None] * columns + column[None]
    mask = (row < rows)[:, None] & (column < columns)[None]
    value = tl.load(x + place, mask, 0.0).to(WIDE) + tl.load(bias + column, column < columns, 0.0).to(WIDE)[None]
    tl.store(out + place, _activate(value, GELU), mask)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, x, bias, out, partial, rows, columns, chunk,
    GELU: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Gradient of x, and its sum over a chunk of rows; partial is (chunks, columns)."""
    column = tl.program_id(1) * LANES + tl.arange(0, LANES)
    begin = tl.program_id(0).to(tl.int64) * chunk
    shift = tl.load(bias + column, column < columns, 0.0).to(WIDE)[None]
    total = tl.zeros((LANES,), WIDE)
    for offset in range(0, chunk, ROWS):
        step = offset + tl.arange(0, ROWS)
        row = begin + step
        place = row[:, None] * columns + column[None]
        mask = ((row < rows) & (step < chunk))[:, None] & (column < columns)[None]
        value = tl.load(x + place, mask, 0.0).to(WIDE) + shift
        # The mask keeps an infinite bias from making a NaN of rows that do not exist.
        below = tl.where(mask, tl.load(grad + place, mask, 0.0).to(WIDE) * _slope(value, GELU), 0.0)
        tl.store(out + place, below, mask)
        total += tl.sum(below, 0)
    tl.store(partial + tl.program_id(0).to(tl.int64) * columns + column, total, column < columns)


def forward(x: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    """As ``bev.ops.bias_activation._bias_activation``; x is not empty."""
    out, rows, columns = torch.empty(x.shape, dtype=x.dtype, device=x.device), x.numel() // x.shape[-1], x.shape[-1]
    _forward[(triton.cdiv(rows, _ROWS), triton.cdiv(columns, _LANES))](
        matrix(x), bias.contiguous(), out, rows, columns,
        GELU=gelu, ROWS=_ROWS, LANES=_LANES, WIDE=compute_type(x.dtype),
    )  # fmt: skip
    return out


def backward(grad: Tensor, x: Tensor, bias: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    """Gradients of x and, in float32 at least, of the bias; x is not empty."""
    out, rows, columns = torch.empty(x.shape, dtype=x.dtype, device=x.device), x.numel() // x.shape[-1], x.shape[-1]
    chunk, chunks = row_chunks(rows)
    partial = x.new_empty(chunks, columns, dtype=torch.promote_types(x.dtype, torch.float32))
    _backward[(chunks, triton.cdiv(columns, _LANES))](
        matrix(grad), matrix(x), bias.contiguous(), out, partial, rows, columns, chunk,
        GELU=gelu, ROWS=_ROWS, LANES=_LANES, WIDE=compute_type(x.dtype),
    )  # fmt: skip
    return out, partial.sum(0)
