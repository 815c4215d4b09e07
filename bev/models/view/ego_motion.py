"""Ego motion as BEVFormer is told it, and what it does to the previous frame's BEV map."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bev.geometry.rotations import quaternion_from_matrix
from bev.models.motion import Motion
from bev.structures.boxes3d import Frame

CAN_BUS = 18  # entries of BEVFormer's vector


class PlanarMotion(NamedTuple):
    """Motion over the ground since the previous frame.

    Attributes:
        moved_m: (B, 2) x, y of the vehicle's displacement in the present reference frame.
        turned_deg: (B,) counter-clockwise turn.
    """

    moved_m: Tensor
    turned_deg: Tensor


def can_bus_vector(motion: Motion, frame: Frame, wrap: bool = True) -> Tensor:
    """(B, 18) float64 vector of BEVFormer from poses alone.

    Entries: 0-2 displacement since the previous frame (m, global axes); 3-6 orientation of the vehicle (quaternion w,
    x, y, z); 7-15 what only a CAN bus knows (acceleration, rotation rate, speed), 0; 16 heading (rad, in [0, 2 pi));
    17 turn since the previous frame (degrees).

    Args:
        motion: poses of the reference frame.
        frame: which one: the vehicle's heading is +y of ``"lidar"`` and +x of ``"ego"`` (nuScenes).
        wrap: the turn in [-180, 180); False for the plain difference of headings in [0, 360), as published.
    """
    rotation = _proper(motion.global_from_ref[:, :3, :3])
    vehicle = _vehicle_axes(rotation, frame)
    before = _vehicle_axes(rotation @ motion.ref_from_previous[:, :3, :3], frame)
    heading, previous = (torch.atan2(axes[:, 1, 0], axes[:, 0, 0]) % (2 * math.pi) for axes in (vehicle, before))
    turn_deg = torch.rad2deg(heading - previous)
    if wrap:
        turn_deg = (turn_deg + 180) % 360 - 180
    moved_m = -(rotation @ motion.ref_from_previous[:, :3, 3:]).squeeze(-1)
    unknown = moved_m.new_zeros(len(moved_m), 9)
    return torch.cat([moved_m, quaternion_from_matrix(vehicle), unknown, heading[:, None], turn_deg[:, None]], 1)


def _proper(rotation: Tensor) -> Tensor:
    """(B, 3, 3) -> a rotation. A mirrored reference frame (``RigMirror``) lives in a world mirrored at its y = 0, a
    scaled one (``AugmentReference``) in a larger or smaller world."""
    determinant = torch.linalg.det(rotation)
    flip = torch.ones_like(rotation)
    flip[:, 1] = torch.where(determinant < 0, -1.0, 1.0)[:, None]
    return rotation * flip / determinant.abs().pow(1 / 3)[:, None, None]


def _vehicle_axes(rotation: Tensor, frame: Frame) -> Tensor:
    """(B, 3, 3) global axes of a reference frame -> of the vehicle (x forward, y left)."""
    if frame != "lidar":
        return rotation
    # The roof LiDAR of nuScenes looks to the right: x right, y forward.
    return torch.stack([rotation[..., 1], -rotation[..., 0], rotation[..., 2]], -1)


def planar_motion(can_bus: Tensor, frame: Frame) -> PlanarMotion:
    """(B, 18) vector -> motion over the ground, by the angle between heading and displacement as published."""
    dx, dy = can_bus[:, 0], can_bus[:, 1]
    length = (dx.square() + dy.square()).sqrt()
    angle = can_bus[:, 16] - torch.atan2(dy, dx)
    ahead, right = length * angle.cos(), length * angle.sin()
    moved = (right, ahead) if frame == "lidar" else (ahead, -right)
    return PlanarMotion(torch.stack(moved, -1), can_bus[:, 17])


def rotate_map(bev: Tensor, turned_deg: Tensor, center_cells: tuple[float, float]) -> Tensor:
    """Turn BEV maps to the present heading; the nearest cell is taken, cells from outside are 0.

    Args:
        bev: (B, Y, X, C), row 0 at the lowest y.
        turned_deg: (B,) counter-clockwise turn of the vehicle: the world turns the other way.
        center_cells: x, y of the fixed point, in cells from the map's lower corner (``torchvision.rotate``'s centre).

    Returns:
        (B, Y, X, C). Without GridSample, so that it exports.
    """
    batch, height, width, channels = bev.shape
    angle = -torch.deg2rad(turned_deg)[:, None, None]
    cos, sin = angle.cos(), angle.sin()
    x = torch.arange(width, device=bev.device) + 0.5 - center_cells[0]
    y = (torch.arange(height, device=bev.device) + 0.5 - center_cells[1])[:, None]
    column = (cos * x + sin * y + center_cells[0] - 0.5).round().long()
    row = (cos * y - sin * x + center_cells[1] - 0.5).round().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)
    turned = bev.flatten(1, 2).gather(1, index.unsqueeze(-1).expand(-1, -1, channels))
    return turned.unflatten(1, (height, width)) * inside.unsqueeze(-1)
