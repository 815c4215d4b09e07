"""Scale, bias, mask and softmax in one pass over the rows of an attention matrix, and the gradient in one."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bev.ops.triton.rows import compute_type, matrix, tile


@triton.jit
def _load(  # type: ignore[no-untyped-def]
    logits, forbidden, bias, start, at_mask, at_bias, column, live, columns, mask_step, bias_step,
    SCALE: tl.constexpr, HAS_MASK: tl.constexpr, HAS_BIAS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Logits of a tile and where they count; -inf where they do not."""
    counts = live & (column < columns)
    value = tl.load(logits + start + column, counts, 0.0).to(WIDE) * SCALE
    if HAS_BIAS:
        value += tl.load(bias + at_bias + column.to(tl.int64) * bias_step, counts, 0.0).to(WIDE)
    if HAS_MASK:
        counts &= tl.load(forbidden + at_mask + column.to(tl.int64) * mask_step, counts, 1) == 0
    return tl.where(counts, value, float("-inf")), counts


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    logits, forbidden, bias, out, rows, columns, heads, queries,
    mask_batch, mask_head, mask_query, mask_step, bias_batch, bias_head, bias_query, bias_step,
    SCALE: tl.constexpr, HAS_MASK: tl.constexpr, HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The first block of a row stays in registers; further ones are read three times."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live, start = (row < rows)[:, None], row[:, None] * columns
    batch, head, query = row // (heads * queries), row // queries % heads, row % queries
    at_mask = (batch * mask_batch + head * mask_head + query * mask_query)[:, None]
    at_bias = (batch * bias_batch + head * bias_head + query * bias_query)[:, None]
    lane = tl.arange(0, BLOCK)[None]
    value, counts = _load(logits, forbidden, bias, start, at_mask, at_bias, lane, live, columns, mask_step, bias_step,
                          SCALE, HAS_MASK, HAS_BIAS, WIDE)  # fmt: skip
    highest = tl.max(value, 1)
    for block in range(1, BLOCKS):
        later, _ = _load(logits, forbidden, bias, start, at_mask, at_bias, block * BLOCK + lane, live, columns,
                         mask_step, bias_step, SCALE, HAS_MASK, HAS_BIAS, WIDE)  # fmt: skip
        highest = tl.maximum(highest, tl.max(later, 1))
    highest = highest[:, None]
    power = tl.where(counts, tl.exp(value - highest), 0.0)
    total = tl.sum(power, 1)
    for block in range(1, BLOCKS):
        later, counted = _load(logits, forbidden, bias, start, at_mask, at_bias, block * BLOCK + lane, live, columns,
                               mask_step, bias_step, SCALE, HAS_MASK, HAS_BIAS, WIDE)  # fmt: skip
        total += tl.sum(tl.where(counted, tl.exp(later - highest), 0.0), 1)
    total = total[:, None]
    tl.store(out + start + lane, tl.where(counts, power / total, 0.0), live & (lane < columns))
    for block in range(1, BLOCKS):
        column = block * BLOCK + lane
        later, counted = _load(logits, forbidden, bias, start, at_mask, at_bias, column, live, columns,
                               mask_step, bias_step, SCALE, HAS_MASK, HAS_BIAS, WIDE)  # fmt: skip
        share = tl.where(counted, tl.exp(later - highest) / total, 0.0)
        tl.store(out + start + column, share, live & (column < columns))


@triton.jit
def _product(grad, share, start, column, live, columns, WIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    mask = live & (column < columns)
    above = tl.load(grad + start + column, mask, 0.0).to(WIDE)
    return above, tl.load(share + start + column, mask, 0.0).to(WIDE)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, share, out, rows, columns,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Gradient of what the exponential was taken of."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live, start = (row < rows)[:, None], row[:, None] * columns
    lane = tl.arange(0, BLOCK)[None]
    above, part = _product(grad, share, start, lane, live, columns, WIDE)
    # A share of 0 passes nothing on, however large the gradient above it.
    mean = tl.sum(tl.where(part == 0, 0.0, above * part), 1)
    for block in range(1, BLOCKS):
        later, piece = _product(grad, share, start, block * BLOCK + lane, live, columns, WIDE)
        mean += tl.sum(tl.where(piece == 0, 0.0, later * piece), 1)
    mean = mean[:, None]
    tl.store(out + start + lane, tl.where(part == 0, 0.0, part * (above - mean)), live & (lane < columns))
    for block in range(1, BLOCKS):
        column = block * BLOCK + lane
        later, piece = _product(grad, share, start, column, live, columns, WIDE)
        below = tl.where(piece == 0, 0.0, piece * (later - mean))
        tl.store(out + start + column, below, live & (column < columns))


def _strides(part: Tensor | None, shape: torch.Size) -> tuple[int, ...]:
    return (0, 0, 0, 0) if part is None else part.expand(shape).stride()


def forward(logits: Tensor, forbidden: Tensor | None, bias: Tensor | None, scale: float) -> Tensor:
    """As ``bev.ops.masked_softmax._masked_softmax``; logits are not empty. Masks and biases are read where they lie."""
    (_, heads, queries, columns), dtype = logits.shape, logits.dtype
    out, rows = torch.empty(logits.shape, dtype=dtype, device=logits.device), logits.numel() // columns
    shape, flat = tile(columns), matrix(logits)
    _forward[(triton.cdiv(rows, shape["ROWS"]),)](
        flat, flat if forbidden is None else forbidden.view(torch.uint8), flat if bias is None else bias, out,
        rows, columns, heads, queries, *_strides(forbidden, logits.shape), *_strides(bias, logits.shape),
        SCALE=scale, HAS_MASK=forbidden is not None, HAS_BIAS=bias is not None, WIDE=compute_type(dtype), **shape,
    )  # fmt: skip
    return out


def backward(grad: Tensor, share: Tensor, dtype: torch.dtype) -> Tensor:
    """Gradient of scaled, biased logits, in ``dtype``; shares are not empty."""
    rows, columns = share.numel() // share.shape[-1], share.shape[-1]
    out, shape = torch.empty(share.shape, dtype=dtype, device=share.device), tile(columns)
    _backward[(triton.cdiv(rows, shape["ROWS"]),)](
        matrix(grad), matrix(share), out, rows, columns, WIDE=compute_type(share.dtype), **shape
    )
    return out
