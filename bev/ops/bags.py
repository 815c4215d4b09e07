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


def transposed_bags(rows: Tensor, index: Tensor, weights: Tensor, count: int) -> Tensor:
    """(count, C): what (N, C) rows, each spread over K consecutive entries, add to the table's rows ``index`` (N * K).

    Entries sorted by their row of the table make bags over ``rows``: no (N * K, C) volume. Sorting 32-bit integers is
    an order of magnitude quicker than sorting 64-bit ones.
    """
    row, order = torch.sort(index.int() if count < 2**31 else index)
    starts = torch.searchsorted(row, torch.arange(count + 1, dtype=row.dtype, device=row.device))
    source = order // (len(index) // len(rows))
    weights = weights[order]
    return F.embedding_bag(source, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)
