"""Voxelisation and reduction to voxels. mmcv's cells are int32, z before y before x, as those of ``bev.ops``."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops import dynamic_scatter, dynamic_voxelize, hard_voxelize
from bev.ops.voxelize import Reduction

__all__ = [
    *("dynamic_voxelize_forward", "hard_voxelize_forward"),
    *("dynamic_point_to_voxel_forward", "dynamic_point_to_voxel_backward"),
]


def dynamic_voxelize_forward(
    points: Tensor, voxel_size: Tensor, coors_range: Tensor, coors: Tensor, NDim: int = 3
) -> None:
    """Write the cell of every point (P, 3 or more, m) into ``coors`` (P, 3); -1 outside the range."""
    coors.copy_(dynamic_voxelize(points, voxel_size.tolist(), coors_range.tolist()))


def hard_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    voxels: Tensor,
    coors: Tensor,
    num_points_per_voxel: Tensor,
    voxel_num: Tensor,
    max_points: int,
    max_voxels: int,
    NDim: int = 3,
    deterministic: bool = True,
) -> None:
    """Write voxels of at most ``max_points`` points, and how many there are into ``voxel_num``; always in one order."""
    found = hard_voxelize(points, voxel_size.tolist(), coors_range.tolist(), max_points, max_voxels)
    number = len(found.cell)
    voxels[:number], coors[:number] = found.points_m, found.cell.int()
    num_points_per_voxel[:number] = found.num_points.int()
    voxel_num.fill_(number)


def dynamic_point_to_voxel_forward(
    feats: Tensor, coors: Tensor, reduce_type: Reduction
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reduced features (V, C), their cells (V, D), voxel of every point (P,) or -1, points of every voxel (V,)."""
    found = dynamic_scatter(feats, coors, reduce_type)
    count = torch.bincount(found.voxel_of_point[found.voxel_of_point >= 0], minlength=len(found.cell))
    return found.features, found.cell.to(coors.dtype), found.voxel_of_point.int(), count.int()


def dynamic_point_to_voxel_backward(
    grad_feats: Tensor,
    grad_reduced_feats: Tensor,
    feats: Tensor,
    reduced_feats: Tensor,
    coors_idx: Tensor,
    reduce_count: Tensor,
    reduce_type: Reduction,
) -> None:
    """Write the gradient of the points' features into ``grad_feats`` (P, C)."""
    starts = torch.nn.functional.pad(reduce_count.long().cumsum(0), (1, 0))
    grad_feats.copy_(
        torch.ops.bev.reduce_points_backward(
            grad_reduced_feats, feats, reduced_feats, starts, coors_idx.long(), reduce_type
        )
    )
