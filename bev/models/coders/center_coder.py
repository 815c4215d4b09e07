"""Boxes as centre-cell codes and back (CenterPoint, arXiv 2006.11275)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.rotations import rotation_about_z
from bev.registry import MODELS
from bev.structures import Boxes3D
from bev.structures.boxes3d import Frame

CODE_SIZE = 10


class CellCodes(NamedTuple):
    """Boxes inside the grid as codes.

    Attributes:
        cell: (M,) int64 ``y * X + x`` of the centre's cell.
        code: (M, 10) dx, dy (cells from the cell's lower corner), z m, log l, log w, log h, sin, cos, vx, vy m/s.
        weight: (M, 10) 0 where the ground truth is not known (velocity NaN), else 1.
        inside: (M_all,) bool, which of the boxes lie inside.
    """

    cell: Tensor
    code: Tensor
    weight: Tensor
    inside: Tensor


@MODELS.register_module()
class CenterCoder:
    """Codes of boxes at their centre's cell.

    Args:
        grid: cells of the head's maps (one level).
        ray_aligned: heading and velocity relative to the cell's direction from the origin, as an image shows them.
    """

    def __init__(self, grid: BEVGrid, ray_aligned: bool = False) -> None:
        self.grid, self.ray_aligned = grid, ray_aligned

    def encode(self, boxes: Boxes3D) -> CellCodes:
        """Boxes of the reference frame -> codes of those whose centre is inside the grid (height is ignored)."""
        center = torch.cat([boxes.center_m[:, :2], torch.full_like(boxes.center_m[:, 2:], self.grid.z_m[0])], -1)
        cell, inside = self.grid.flat_index(center)
        cell, kept = cell[inside], boxes[inside]
        turn = -self._direction_rad(cell)
        yaw, velocity = kept.yaw_rad + turn, _rotate(kept.velocity_mps, turn)
        known = torch.isfinite(velocity)
        offset = kept.center_m[:, :2] / kept.center_m.new_tensor([self.grid.x_m[2], self.grid.y_m[2]])
        low = kept.center_m.new_tensor([self.grid.x_m[0] / self.grid.x_m[2], self.grid.y_m[0] / self.grid.y_m[2]])
        offset = offset - low - torch.stack([cell % self.grid.shape[2], cell // self.grid.shape[2]], -1)
        angle = torch.stack([yaw.sin(), yaw.cos()], -1)
        code = torch.cat([offset, kept.center_m[:, 2:], kept.size_m.log(), angle, velocity.nan_to_num(0.0)], -1)
        weight = torch.cat([torch.ones_like(code[:, :8]), known.to(code)], -1)
        return CellCodes(cell, code, weight, inside)

    def decode(self, cell: Tensor, code: Tensor, label: Tensor, score: Tensor, frame: Frame = "lidar") -> Boxes3D:
        """(M,) cells, (M, 10) codes, labels and scores -> boxes of the reference frame."""
        corner = torch.stack([cell % self.grid.shape[2], cell // self.grid.shape[2]], -1)
        step = code.new_tensor([self.grid.x_m[2], self.grid.y_m[2]])
        center_xy = (corner + code[:, :2]) * step + code.new_tensor([self.grid.x_m[0], self.grid.y_m[0]])
        turn = self._direction_rad(cell)
        yaw = torch.atan2(code[:, 6], code[:, 7]) + turn
        yaw = torch.remainder(yaw + math.pi, 2 * math.pi) - math.pi
        center = torch.cat([center_xy, code[:, 2:3]], -1)
        # exp(5) = 148 m: an untrained network must not overflow.
        size = code[:, 3:6].clamp(max=5.0).exp()
        return Boxes3D(center, size, yaw, _rotate(code[:, 8:10], turn), label, score, frame)

    def _direction_rad(self, cell: Tensor) -> Tensor:
        if not self.ray_aligned:
            return torch.zeros(cell.shape, device=cell.device)
        x = self.grid.x_m[0] + (cell % self.grid.shape[2] + 0.5) * self.grid.x_m[2]
        y = self.grid.y_m[0] + (cell // self.grid.shape[2] + 0.5) * self.grid.y_m[2]
        return torch.atan2(y, x)


def _rotate(vector: Tensor, angle_rad: Tensor) -> Tensor:
    """(M, 2) vectors turned counter-clockwise by (M,) angles."""
    return (rotation_about_z(angle_rad)[:, :2, :2].to(vector) @ vector[:, :, None]).squeeze(-1)
