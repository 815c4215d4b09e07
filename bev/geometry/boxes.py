"""Points against boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.structures import Boxes3D


def points_in_boxes(xyz_m: Tensor, boxes: Boxes3D) -> Tensor:
    """(P, 3) points and M boxes of the same frame -> (M, P) bool; faces count as inside, as in nuScenes' own counts."""
    offset = xyz_m[None] - boxes.center_m[:, None]
    cos, sin = boxes.yaw_rad.cos()[:, None], boxes.yaw_rad.sin()[:, None]
    along, across = offset[..., 0] * cos + offset[..., 1] * sin, offset[..., 1] * cos - offset[..., 0] * sin
    local = torch.stack([along, across, offset[..., 2]], -1)
    return (local.abs() <= boxes.size_m[:, None] / 2).all(-1)
