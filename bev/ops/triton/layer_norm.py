"""Bias, residual and layer norm in one pass over the rows, and their gradients in two."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bev.ops.triton.rows import compute_type, matrix, row_chunks, tile

_LANES = 64  # columns a program of the sums over rows
_STEP = 32  # rows at a time there


@triton.jit
def _load(  # type: ignore[no-untyped-def]
    x, residual, bias, start, column, live, columns,
    HAS_RESIDUAL: tl.constexpr, HAS_BIAS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """x + bias + residual of a tile; zeros outside."""
    mask = live & (column < columns)
    total = tl.load(x + start + column, mask, 0.0).to(WIDE)
    if HAS_BIAS:
        total += tl.load(bias + column, column < columns, 0.0).to(WIDE)
    if HAS_RESIDUAL:
        total += tl.load(residual + start + column, mask, 0.0).to(WIDE)
    return total


@triton.jit
def _squares(value, centre, column, columns):  # type: ignore[no-untyped-def]
    apart = tl.where(column < columns, value - centre, 0.0)
    return tl.sum(apart * apart, 1)


@triton.jit
def _store(  # type: ignore[no-untyped-def]
    value, centre, scale, gamma, beta, out, total, start, column, live, columns,
    KEEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    factor = tl.load(gamma + column, column < columns, 0.0).to(WIDE)
    shift = tl.load(beta + column, column < columns, 0.0).to(WIDE)
    mask = live & (column < columns)
    tl.store(out + start + column, (value - centre) * scale * factor + shift, mask)
    if KEEP:
        tl.store(total + start + column, value, mask)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    x, residual, bias, gamma, beta, out, total, mean, rstd, rows, columns,
    EPS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, HAS_BIAS: tl.constexpr, KEEP: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The first block of a row stays in registers; further ones are read three times."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    start, live = row[:, None] * columns, (row < rows)[:, None]
    lane = tl.arange(0, BLOCK)[None]
    value = _load(x, residual, bias, start, lane, live, columns, HAS_RESIDUAL, HAS_BIAS, WIDE)
    centre = tl.sum(value, 1)
    for block in range(1, BLOCKS):
        column = block * BLOCK + lane
        centre += tl.sum(_load(x, residual, bias, start, column, live, columns, HAS_RESIDUAL, HAS_BIAS, WIDE), 1)
    centre = centre / columns
    spread = _squares(value, centre[:, None], lane, columns)
    for block in range(1, BLOCKS):
        column = block * BLOCK + lane
        later = _load(x, residual, bias, start, column, live, columns, HAS_RESIDUAL, HAS_BIAS, WIDE)
        spread += _squares(later, centre[:, None], column, columns)
    scale = 1 / tl.sqrt(spread / columns + EPS)
    tl.store(mean + row, centre, row < rows)
    tl.store(rstd + row, scale, row < rows)
    centre, scale = centre[:, None], scale[:, None]
    _store(value, centre, scale, gamma, beta, out, total, start, lane, live, columns, KEEP, WIDE)
    for block in range(1, BLOCKS):
        column = block * BLOCK + lane
        later = _load(x, residual, bias, start, column, live, columns, HAS_RESIDUAL, HAS_BIAS, WIDE)
        _store(later, centre, scale, gamma, beta, out, total, start, column, live, columns, KEEP, WIDE)


@triton.jit
def _slopes(  # type: ignore[no-untyped-def]
    grad, total, gamma, centre, scale, start, column, live, columns, WIDE: tl.constexpr
):
    """Normalised values of a tile and the gradient with respect to them; zeros outside."""
    mask = live & (column < columns)
    normal = tl.where(mask, (tl.load(total + start + column, mask, 0.0).to(WIDE) - centre) * scale, 0.0)
    factor = tl.load(gamma + column, column < columns, 0.0).to(WIDE)
    return normal, tl.load(grad + start + column, mask, 0.0).to(WIDE) * factor


@triton.jit
def _descend(  # type: ignore[no-untyped-def]
    normal, above, first, second, scale, grad_total, out, start, column, mask,
    HAS_TOTAL: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    below = (above - first - normal * second) * scale
    if HAS_TOTAL:
        below += tl.load(grad_total + start + column, mask, 0.0).to(WIDE)
    tl.store(out + start + column, below, mask)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, grad_total, total, gamma, mean, rstd, out, rows, columns,
    HAS_TOTAL: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Gradient of the sum that was normalised."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    start, live = row[:, None] * columns, (row < rows)[:, None]
    lane = tl.arange(0, BLOCK)[None]
    centre, scale = tl.load(mean + row, row < rows, 0.0)[:, None], tl.load(rstd + row, row < rows, 0.0)[:, None]
    normal, above = _slopes(grad, total, gamma, centre, scale, start, lane, live, columns, WIDE)
    first, second = tl.sum(above, 1), tl.sum(above * normal, 1)
    for block in range(1, BLOCKS):
        column = block * BLOCK + lane
        later, higher = _slopes(grad, total, gamma, centre, scale, start, column, live, columns, WIDE)
        first += tl.sum(higher, 1)
        second += tl.sum(higher * later, 1)
    first, second = (first / columns)[:, None], (second / columns)[:, None]
    mask = live & (lane < columns)
    _descend(normal, above, first, second, scale, grad_total, out, start, lane, mask, HAS_TOTAL, WIDE)
    for block in range(1, BLOCKS):
        column = block * BLOCK + lane
        mask = live & (column < columns)
        later, higher = _slopes(grad, total, gamma, centre, scale, start, column, live, columns, WIDE)
        _descend(later, higher, first, second, scale, grad_total, out, start, column, mask, HAS_TOTAL, WIDE)


@triton.jit
def _sums(  # type: ignore[no-untyped-def]
    grad, below, total, mean, rstd, partial, rows, columns, chunk,
    LANES: tl.constexpr, STEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Sums over a chunk of rows: of the gradients of gamma, beta and the bias; partial is (3, chunks, columns)."""
    column = tl.program_id(1) * LANES + tl.arange(0, LANES)
    inside = (column < columns)[None]
    begin = tl.program_id(0).to(tl.int64) * chunk
    of_gamma, of_beta, of_bias = tl.zeros((LANES,), WIDE), tl.zeros((LANES,), WIDE), tl.zeros((LANES,), WIDE)
    for offset in range(0, chunk, STEP):
        step = offset + tl.arange(0, STEP)
        row = begin + step
        live = (row < rows) & (step < chunk)
        mask, place = live[:, None] & inside, row[:, None] * columns + column[None]
        centre, scale = tl.load(mean + row, live, 0.0)[:, None], tl.load(rstd + row, live, 0.0)[:, None]
        above = tl.load(grad + place, mask, 0.0).to(WIDE)
        normal = tl.where(mask, (tl.load(total + place, mask, 0.0).to(WIDE) - centre) * scale, 0.0)
        of_gamma += tl.sum(above * normal, 0)
        of_beta += tl.sum(above, 0)
        of_bias += tl.sum(tl.load(below + place, mask, 0.0).to(WIDE), 0)
    target = partial + tl.program_id(0).to(tl.int64) * columns + column
    plane = tl.num_programs(0).to(tl.int64) * columns
    tl.store(target, of_gamma, column < columns)
    tl.store(target + plane, of_beta, column < columns)
    tl.store(target + 2 * plane, of_bias, column < columns)


def forward(
    x: Tensor,
    residual: Tensor | None,
    bias: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    keep: bool,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``bev.ops.layer_norm._add_layer_norm``; x is not empty."""
    count, columns = x.numel() // x.shape[-1], x.shape[-1]
    out = torch.empty(x.shape, dtype=out_dtype, device=x.device)
    total = torch.empty_like(out) if keep else out.new_empty(0)
    mean, rstd = (out.new_empty(count, dtype=torch.promote_types(out_dtype, torch.float32)) for _ in range(2))
    shape = tile(columns)
    x = matrix(x)
    added, shift = (None if part is None else matrix(part) for part in (residual, bias))
    _forward[(triton.cdiv(count, shape["ROWS"]),)](
        x, x if added is None else added, x if shift is None else shift, gamma.contiguous(), beta.contiguous(),
        out, total, mean, rstd, count, columns,
        EPS=eps, HAS_RESIDUAL=added is not None, HAS_BIAS=shift is not None, KEEP=keep,
        WIDE=compute_type(out_dtype), **shape,
    )  # fmt: skip
    return out, total, mean, rstd


def backward(
    grad: Tensor, grad_total: Tensor | None, total: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``bev.ops.layer_norm._add_layer_norm_backward``; total is not empty."""
    count, columns, wide = mean.numel(), total.shape[-1], compute_type(total.dtype)
    out = torch.empty(total.shape, dtype=total.dtype, device=total.device)
    grad, total, shape = matrix(grad), matrix(total), tile(columns)
    _backward[(triton.cdiv(count, shape["ROWS"]),)](
        grad, grad if grad_total is None else matrix(grad_total), total, gamma.contiguous(), mean, rstd, out,
        count, columns, HAS_TOTAL=grad_total is not None, WIDE=wide, **shape,
    )  # fmt: skip
    chunk, chunks = row_chunks(count)
    partial = mean.new_empty(3, chunks, columns)
    _sums[(chunks, triton.cdiv(columns, _LANES))](
        grad, out, total, mean, rstd, partial, count, columns, chunk, LANES=_LANES, STEP=_STEP, WIDE=wide
    )
    return out, partial[0].sum(0), partial[1].sum(0), partial[2].sum(0)
