"""Gradients of weighted bags of rows (``embedding_bag``), without the (rows x channels) volume autograd would build."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 4096  # rows gathered at a time: they stay in the cache


def bag_products(rows: Tensor, table: Tensor, index: Tensor) -> Tensor:
    """(N, K): the product of row n of (N, C) with row ``index[n, k]`` of the table, a few bags at a time."""
    result = rows.new_empty(index.shape)
    step = max(1, _CHUNK // index.shape[1])
    for start in range(0, len(rows), step):
        part = index[start : start + step]
        gathered = table.index_select(0, part.reshape(-1)).view(*part.shape, -1)
        torch.bmm(gathered, rows[start : start + step, :, None], out=result[start : start + step, :, None])
    return result


def transposed_bags(
    rows: Tensor, index: Tensor, weights: Tensor, count: int, source: Tensor | None = None
) -> Tensor:
    """What weighted rows, each spread over several entries, add to the rows of a table.

    Entries sorted by their row of the table make bags over ``rows``: no (E, C) volume. Sorting 32-bit integers is an
    order of magnitude quicker than sorting 64-bit ones.

    Args:
        rows: (N, C).
        index: (E,) int64 row of the table that entry e adds to.
        weights: (E,) factor of the entry.
        count: rows of the table.
        source: (E,) int64 row that entry e takes; None: E / N consecutive entries a row.

    Returns:
        (count, C).
    """
    if not len(index):
        return rows.new_zeros(count, rows.shape[1])
    row, order = torch.sort(index.int() if count < 2**31 else index)
    starts = torch.searchsorted(row, torch.arange(count + 1, dtype=row.dtype, device=row.device))
    taken = order // (len(index) // len(rows)) if source is None else source[order]
    weights = weights[order]
    return F.embedding_bag(taken, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)
