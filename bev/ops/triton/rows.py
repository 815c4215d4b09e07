"""What kernels over the rows of a matrix share: how a program's tile is cut, and in which type it computes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDEST = 8192  # columns that one tile spans; wider rows are walked through in blocks
_TILE = 2048  # elements a program of four warps holds: 16 a thread


def tile(columns: int) -> dict[str, int]:
    """ROWS and BLOCK of a program's tile (powers of two), BLOCKS of a row (1 unless it is wider than WIDEST)."""
    block = min(WIDEST, triton.next_power_of_2(max(1, columns)))
    rows = max(1, min(64, _TILE // block))
    warps = max(1, min(16, rows * block // (_TILE // 4)))
    return {"ROWS": rows, "BLOCK": block, "BLOCKS": triton.cdiv(columns, block), "num_warps": warps}


def compute_type(dtype: torch.dtype) -> tl.dtype:
    """float32 at least."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def matrix(x: Tensor) -> Tensor:
    """(..., C) -> contiguous (rows, C); at least one column."""
    return x.reshape(-1, x.shape[-1]).contiguous()


def row_chunks(rows: int) -> tuple[int, int]:
    """For sums over all rows of a matrix: rows that one program sums, and the number of such programs.

    At most 256 a block of columns; their sums are added afterwards, in a fixed order, so that results repeat.
    """
    chunk = max(32, triton.cdiv(rows, 256))
    return chunk, triton.cdiv(rows, chunk)
