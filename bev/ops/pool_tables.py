"""Lift-splat pooling as gathers and sums of fixed width: the form that exports.

An exported graph has neither a reduction by scattering (TensorRT refuses it) nor a bag. A running sum and differences
at the cells' borders would do, but their error grows with everything summed before. So each cell's points are
summed as a tree: eight at a time, sixteen of those sums at a time, then the rest at once. Which rows are added is in
tables that follow from the calibration alone; one row of zeros fills up what is short.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_FIRST, _SECOND = 8, 16


class PoolTables(NamedTuple):
    """Which rows make up each cell.

    Attributes:
        points: (S1, 8) int64 flat points ``row * D + d``; R * D for none.
        partial: (S2, 16) int64 rows of the first sums; S1 for none.
        rest: (S3, W) int64 rows of the second sums; S2 for none.
        cells: (G,) int64 for each cell a row of all sums, the first ones before the second and the third; S1 + S2 + S3
            for an empty cell.
        rows: R that the tables tell of; features of several times R rows are pooled frame by frame. None: all.
    """

    points: Tensor
    partial: Tensor
    rest: Tensor
    cells: Tensor
    rows: int | None = None


def pool_tables(cell_of_point: Tensor, order: Tensor, offsets: Tensor) -> PoolTables:
    """Tables of a ``PoolPlan``'s parts; summing by them equals ``bev_pool`` up to rounding.

    Every table has at least two rows, the last one two columns, so that shapes of example inputs are not special.
    """
    counts = offsets.diff()
    none = cell_of_point.numel()
    points, first_count = _chunks(order, counts, _FIRST, none)
    start = first_count.cumsum(0) - first_count
    many = first_count > 1
    partial, second_count = _chunks(_runs(start[many], first_count[many]), first_count[many], _SECOND, len(points))
    second_start = second_count.cumsum(0) - second_count
    most = second_count > 1
    width = max(int(second_count.max()) if len(second_count) else 0, 2)
    rest, _ = _chunks(_runs(second_start[most], second_count[most]), second_count[most], width, len(partial))
    row = torch.where(counts > 0, start, len(points) + len(partial) + len(rest))
    after = len(points) + second_start
    after[most] = len(points) + len(partial) + torch.arange(int(most.sum()), device=after.device)
    row[many] = after
    return PoolTables(points, partial, rest, row)


def _runs(start: Tensor, count: Tensor) -> Tensor:
    """All numbers of the runs ``start .. start + count - 1``, one run after the other."""
    inside = torch.arange(int(count.sum()), device=count.device)
    return inside + (start - (count.cumsum(0) - count)).repeat_interleave(count)


def _chunks(values: Tensor, counts: Tensor, width: int, none: int) -> tuple[Tensor, Tensor]:
    """Runs of values cut into rows of ``width``, each run beginning a row; and the number of rows of each run."""
    rows = (counts + width - 1) // width
    table = values.new_full((max(int(rows.sum()), 2) * width,), none)
    first = (rows.cumsum(0) - rows) * width
    table[_runs(first, counts)] = values
    return table.view(-1, width), rows


def bev_pool_by_tables(depth: Tensor, features: Tensor, tables: PoolTables) -> Tensor:
    """As ``bev_pool``: (R, D) weights and (R, C) features of F frames -> (F * G, C).

    Gather, multiply, add and concatenate alone; exact sums of eight, sixteen and the rest, so also fit for half
    precision.
    """
    rows, bins = tables.rows or depth.shape[0], depth.shape[1]
    weight = _with_zero(depth.reshape(-1, rows * bins, 1))
    pixels = _with_zero(features.reshape(-1, rows, features.shape[1]))
    first = (pixels[:, tables.points // bins] * weight[:, tables.points]).sum(2)
    second = _with_zero(first)[:, tables.partial].sum(2)
    third = _with_zero(second)[:, tables.rest].sum(2)
    return _with_zero(torch.cat([first, second, third], 1))[:, tables.cells].flatten(0, 1)


def _with_zero(rows: Tensor) -> Tensor:
    """(F, R, C) -> (F, R + 1, C) with a last row of zeros."""
    return torch.nn.functional.pad(rows, (0, 0, 0, 1))
