"""Points to voxels: which cell each point is in, fixed-size voxels, and reduction of points to their voxels (pillars).

All of it is one stable sort of the points by their cell and work on runs of equal cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["sum", "mean", "max"]


def dynamic_voxelize(points_m: Tensor, voxel_size_m: Sequence[float], range_m: Sequence[float]) -> Tensor:
    """Cell of every point.

    Args:
        points_m: (P, 3 or more) x, y, z in m, then anything.
        voxel_size_m: x, y, z.
        range_m: low x, y, z, then high x, y, z.

    Returns:
        (P, 3) int64 z, y, x of the cell; -1, -1, -1 for points outside the range (or not a number).

    Raises:
        ValueError: sizes or range do not fit.
    """
    low, size, cells = _grid(voxel_size_m, range_m)
    wide = torch.promote_types(points_m.dtype, torch.float32)
    place = ((points_m[:, :3].detach().to(wide) - low.to(points_m)) / size.to(points_m.device, wide)).floor()
    inside = ((place >= 0) & (place < cells.to(place))).all(1, keepdim=True)
    return torch.where(inside, place, -1).long().flip(1)


def _grid(voxel_size_m: Sequence[float], range_m: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Lower corner, voxel size and number of cells along x, y, z; float32 as the points are."""
    if len(voxel_size_m) != 3 or len(range_m) != 6:
        raise ValueError(f"voxelize: expected three sizes and six limits, got {list(voxel_size_m)} and {list(range_m)}")
    # numpy, since what is compared in torch does not export.
    low, high, size = (np.asarray(part, np.float32) for part in (range_m[:3], range_m[3:], voxel_size_m))
    with np.errstate(divide="ignore", invalid="ignore"):
        cells = np.floor((high - low) / size + np.float32(0.5))  # halves up, as mmcv, not to even numbers
    if not ((cells >= 1) & np.isfinite(cells)).all():
        raise ValueError(f"voxelize: range {list(range_m)} holds no voxel of size {list(voxel_size_m)}")
    return torch.tensor(low), torch.tensor(size), torch.tensor(cells)


class Voxels(NamedTuple):
    """Fixed-size voxels in the order in which their first points come.

    Attributes:
        points_m: (V, max_points, C), zeros where a voxel has fewer.
        cell: (V, 3) int64 z, y, x.
        num_points: (V,) int64 points kept of each.
    """

    points_m: Tensor
    cell: Tensor
    num_points: Tensor


def hard_voxelize(
    points_m: Tensor,  # (P, C)
    voxel_size_m: Sequence[float],
    range_m: Sequence[float],
    max_points: int,
    max_voxels: int,
) -> Voxels:
    """Gather points into voxels of at most ``max_points``: the first ones of each, of the first ``max_voxels`` voxels.

    Args:
        points_m, voxel_size_m, range_m: as in :func:`dynamic_voxelize`.

    Returns:
        See :class:`Voxels`. Not differentiable.

    Raises:
        ValueError: sizes, range or limits do not fit.

    Reference: Zhou and Tuzel, VoxelNet (CVPR 2018), section 2.1.1; the order is that of mmcv's deterministic kernel.
    """
    if max_points < 1 or max_voxels < 1:
        raise ValueError(f"hard_voxelize: limits must be positive, got {max_points} points and {max_voxels} voxels")
    cell = dynamic_voxelize(points_m, voxel_size_m, range_m)
    return Voxels(*_hard_voxelize(points_m.detach(), cell, max_points, max_voxels))


@torch.library.custom_op("bev::hard_voxelize", mutates_args=())
def _hard_voxelize(points_m: Tensor, cell: Tensor, max_points: int, max_voxels: int) -> tuple[Tensor, Tensor, Tensor]:
    order, starts = _runs(cell)
    count = starts.diff()
    # Voxels are numbered by their first point, which a stable sort has put at the start of each run.
    rank = torch.empty_like(count)
    rank[order[starts[:-1]].argsort()] = torch.arange(len(count), device=count.device)
    voxel = rank.repeat_interleave(count)
    place = torch.arange(len(order), device=order.device) - starts[:-1].repeat_interleave(count)
    kept = (place < max_points) & (voxel < max_voxels)
    order, voxel, place = order[kept], voxel[kept], place[kept]
    number = min(len(count), max_voxels)
    points = points_m.new_zeros(number, max_points, points_m.shape[1])
    points[voxel, place] = points_m[order]
    cells = cell.new_zeros(number, 3)
    cells[voxel] = cell[order]
    return points, cells, torch.bincount(voxel, minlength=number)


@_hard_voxelize.register_fake
def _(points_m: Tensor, cell: Tensor, max_points: int, max_voxels: int) -> tuple[Tensor, Tensor, Tensor]:
    number = torch.library.get_ctx().new_dynamic_size()
    points = points_m.new_empty(number, max_points, points_m.shape[1])
    return points, cell.new_empty(number, 3), cell.new_empty(number)


def _runs(cell: Tensor) -> tuple[Tensor, Tensor]:
    """(K,) points inside, sorted stably by cell, and (V + 1,) starts of the runs of equal cells."""
    inside = (cell >= 0).all(1).nonzero().squeeze(1)
    taken = cell[inside]
    extent = [int(n) + 1 for n in taken.amax(0)] if len(taken) else [1] * cell.shape[1]
    size = 1
    for number in extent:
        size *= number
    if size >= 2**63:
        raise ValueError(f"voxelize: {extent} cells cannot be numbered in 64 bits")
    key = taken.new_zeros(len(taken))
    for column, number in zip(taken.unbind(1), extent):
        key = key * number + column
    # Sorting 32-bit integers is an order of magnitude quicker than sorting 64-bit ones.
    key, order = torch.sort(key.int() if size < 2**31 else key, stable=True)
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    starts = first.nonzero().squeeze(1)
    return inside[order], torch.cat([starts, starts.new_tensor([len(key)])])


class Scattered(NamedTuple):
    """Points reduced to voxels, these sorted by their cell.

    Attributes:
        features: (V, C).
        cell: (V, D) int64.
        voxel_of_point: (P,) int64, -1 for points that are in none.
    """

    features: Tensor
    cell: Tensor
    voxel_of_point: Tensor


def dynamic_scatter(features: Tensor, cell: Tensor, reduction: Reduction = "max") -> Scattered:
    """Reduce the features of all points of a voxel to one.

    Args:
        features: (P, C), any float dtype; reduced in float32 at least.
        cell: (P, D) integers, e.g. batch, z, y, x; points with a negative one are left out.
        reduction: ``sum``, ``mean`` or ``max``.

    Returns:
        See :class:`Scattered`; differentiable (once) with respect to the features. The gradient of ``max`` goes to the
        first of equal points.

    Raises:
        ValueError: unknown reduction, or shapes that do not fit.

    Reference: Zhou et al., End-to-end multi-view fusion (CoRL 2019), dynamic voxelisation.
    """
    if reduction not in ("sum", "mean", "max"):
        raise ValueError(f"dynamic_scatter: reduction is {reduction!r}, expected 'sum', 'mean' or 'max'")
    if features.ndim != 2 or cell.ndim != 2 or len(features) != len(cell):
        shapes = f"{tuple(features.shape)} and {tuple(cell.shape)}"
        raise ValueError(f"dynamic_scatter: expected features (P, C) and cells (P, D), got {shapes}")
    order, starts, voxel_of_point = _group(cell)
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    reduced = _reduce(wide, order, starts, voxel_of_point, reduction).to(features.dtype)
    return Scattered(reduced, cell[order[starts[:-1]]].long(), voxel_of_point)


@torch.library.custom_op("bev::group_points", mutates_args=())
def _group(cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    order, starts = _runs(cell)
    voxel_of_point = torch.full((len(cell),), -1, dtype=torch.int64, device=cell.device)
    number = torch.arange(len(starts) - 1, device=cell.device)
    voxel_of_point[order] = number.repeat_interleave(starts.diff())
    return order, starts, voxel_of_point


@_group.register_fake
def _(cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    context = torch.library.get_ctx()
    order, starts = (cell.new_empty(context.new_dynamic_size(), dtype=torch.int64) for _ in range(2))
    return order, starts, cell.new_empty(len(cell), dtype=torch.int64)


def _reduce_reference(features: Tensor, voxel_of_point: Tensor, count: int, reduction: Reduction) -> Tensor:
    """The plainest form: one voxel after another."""
    rows = [features[voxel_of_point == voxel] for voxel in range(count)]
    reduce = {"sum": lambda x: x.sum(0), "mean": lambda x: x.mean(0), "max": lambda x: x.max(0).values}[reduction]
    return torch.stack([reduce(row) for row in rows]) if rows else features[:0]


@torch.library.custom_op("bev::reduce_points", mutates_args=())
def _reduce(features: Tensor, order: Tensor, starts: Tensor, voxel_of_point: Tensor, reduction: str) -> Tensor:
    if not len(order):
        return features.new_zeros(0, features.shape[1])
    return F.embedding_bag(order, features.contiguous(), starts, mode=reduction, include_last_offset=True)


@_reduce.register_fake
def _(features: Tensor, order: Tensor, starts: Tensor, voxel_of_point: Tensor, reduction: str) -> Tensor:
    return features.new_empty(starts.shape[0] - 1, features.shape[1])


@torch.library.custom_op("bev::reduce_points_backward", mutates_args=())
def _reduce_backward(
    grad: Tensor, features: Tensor, pooled: Tensor, starts: Tensor, voxel_of_point: Tensor, reduction: str
) -> Tensor:
    points = (voxel_of_point >= 0).nonzero().squeeze(1)
    voxel = voxel_of_point[points]
    if reduction == "mean":
        grad = grad / starts.diff()[:, None]
    row = grad[voxel]
    if reduction == "max":
        # Points rise within a voxel, so that the smallest position is the first of equal ones.
        position = torch.arange(len(points), device=grad.device)[:, None].expand_as(row)
        candidate = torch.where(features[points] == pooled[voxel], position, len(points))
        first = torch.full(grad.shape, len(points), device=grad.device)
        first.scatter_reduce_(0, voxel[:, None].expand_as(row), candidate, "amin")
        row = torch.where(first[voxel] == position, row, 0)
    return torch.zeros_like(features).index_copy_(0, points, row)


@_reduce_backward.register_fake
def _(
    grad: Tensor, features: Tensor, pooled: Tensor, starts: Tensor, voxel_of_point: Tensor, reduction: str
) -> Tensor:
    return torch.empty_like(features)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, _, starts, voxel_of_point, ctx.reduction = inputs
    ctx.save_for_backward(features, output, starts, voxel_of_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _reduce_backward(grad.contiguous(), *ctx.saved_tensors, ctx.reduction), None, None, None, None


_reduce.register_autograd(_backward, setup_context=_setup_context)
