"""One point for each cube of a grid."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bev.structures import PointCloud

_BITS = 21


def voxel_index(xyz_m: Tensor, voxel_m: float) -> Tensor:
    """(P, 3) -> (P,) int64, equal for points in one cube of side ``voxel_m``; cubes' corners are multiples of it.

    Raises:
        ValueError: a side that is not positive, or a position that is not finite or more than 2^20 cubes from 0.
    """
    if not voxel_m > 0:
        raise ValueError(f"voxels of {voxel_m} m")
    cube = (xyz_m.double() / voxel_m).floor()
    if not bool((cube.abs() < 1 << (_BITS - 1)).all()):
        raise ValueError(f"a point is not finite or further than {voxel_m * (1 << (_BITS - 1)):.3g} m from 0")
    x, y, z = (cube.long() + (1 << (_BITS - 1))).unbind(1)
    return (x << _BITS | y) << _BITS | z


def voxel_downsample(cloud: PointCloud, voxel_m: float) -> PointCloud:
    """Replace the points of each cube by one.

    Args:
        cloud: P points, finite.
        voxel_m: side of the cubes, m.

    Returns:
        A point a cube, in order of x, y, z: positions and float fields are means; other fields (ring, class, colour)
        are those of the cube's first point, since a mean of classes is none.

    Raises:
        ValueError: see `voxel_index`.
    """
    _, cell = torch.unique(voxel_index(cloud.xyz_m, voxel_m), return_inverse=True)
    count = torch.bincount(cell)
    first = torch.full((len(count),), len(cell), device=cell.device)
    first = first.scatter_reduce(0, cell, torch.arange(len(cell), device=cell.device), "amin")

    def reduced(column: Tensor) -> Tensor:
        if not column.is_floating_point():
            return column[first]
        # Summed in float64: a float32 sum of map coordinates is off by metres.
        total = torch.zeros(len(count), *column.shape[1:], dtype=torch.float64, device=column.device)
        total.index_add_(0, cell, column.double())
        return (total / count.view(-1, *[1] * (column.ndim - 1))).to(column.dtype)

    fields = {name: reduced(column) for name, column in cloud.fields.items()}
    return replace(cloud, xyz_m=reduced(cloud.xyz_m), fields=fields, grid_hw=None)
