"""Rotations: quaternions (w, x, y, z), matrices and headings."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wrap_angle(angle_rad: Tensor, period_rad: float = 2 * math.pi) -> Tensor:
    """Wrap angles into [-period / 2, period / 2)."""
    return (angle_rad + period_rad / 2) % period_rad - period_rad / 2


def matrix_from_quaternion(quaternion: Tensor) -> Tensor:
    """(..., 4) quaternions w, x, y, z (nuScenes order; any non-zero norm) -> (..., 3, 3) rotation matrices."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).reshape(*quaternion.shape[:-1], 3, 3)


def quaternion_from_yaw(yaw_rad: Tensor) -> Tensor:
    """(...,) headings about +z -> (..., 4) unit quaternions w, x, y, z."""
    zero = torch.zeros_like(yaw_rad)
    return torch.stack([(yaw_rad / 2).cos(), zero, zero, (yaw_rad / 2).sin()], -1)


def yaw_from_matrix(rotation: Tensor) -> Tensor:
    """(..., 3, 3) -> (...,) heading of the rotated x axis, counter-clockwise from +x."""
    return torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0])


def rotation_about_z(yaw_rad: Tensor) -> Tensor:
    """(...,) angles -> (..., 3, 3) counter-clockwise rotations about +z."""
    cos, sin = yaw_rad.cos(), yaw_rad.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).reshape(*yaw_rad.shape, 3, 3)


def quaternion_from_matrix(rotation: Tensor) -> Tensor:
    """(..., 3, 3) rotation matrices -> (..., 4) unit quaternions w, x, y, z with w >= 0."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotation.unbind(-2))
    # 4 q q^T: every row is the quaternion times one of its entries; the row of the largest entry is exact.
    rows = [
        torch.stack([1 + xx + yy + zz, zy - yz, xz - zx, yx - xy], -1),
        torch.stack([zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx], -1),
        torch.stack([xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy], -1),
        torch.stack([yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz], -1),
    ]
    outer = torch.stack(rows, -2)
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    row = torch.where(row[..., :1] < 0, -row, row)
    return torch.nn.functional.normalize(row, dim=-1)
