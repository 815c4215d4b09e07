"""Boxes as areas of the bird's-eye-view grid."""

from __future__ import annotations

from torch import Tensor

from bev.geometry.bev_grid import BEVGrid
from bev.structures import Boxes3D


def footprints(boxes: Boxes3D, grid: BEVGrid) -> Tensor:
    """(Y, X) bool: cells whose centre lies in one of M boxes of the same frame, seen from above."""
    offset = grid.centers_m(boxes.center_m.device)[:, :, None] - boxes.center_m[:, :2]
    cos, sin = boxes.yaw_rad.cos(), boxes.yaw_rad.sin()
    along = offset[..., 0] * cos + offset[..., 1] * sin
    across = offset[..., 1] * cos - offset[..., 0] * sin
    return ((along.abs() <= boxes.size_m[:, 0] / 2) & (across.abs() <= boxes.size_m[:, 1] / 2)).any(-1)
