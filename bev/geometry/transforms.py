"""Rigid transforms as (..., 4, 4) matrices named ``dst_from_src``."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.geometry.rotations import matrix_from_quaternion


def rigid(rotation: Tensor, translation_m: Tensor) -> Tensor:
    """(..., 3, 3) and (..., 3) -> (..., 4, 4)."""
    matrix = torch.zeros(*rotation.shape[:-2], 4, 4, dtype=rotation.dtype, device=rotation.device)
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = translation_m
    matrix[..., 3, 3] = 1
    return matrix


def rigid_from_quaternion(quaternion: Tensor, translation_m: Tensor) -> Tensor:
    """nuScenes' pose records: (..., 4) quaternion w, x, y, z and (..., 3) translation -> (..., 4, 4)."""
    return rigid(matrix_from_quaternion(quaternion), translation_m)


def invert_rigid(dst_from_src: Tensor) -> Tensor:
    """(..., 4, 4) -> its inverse, exactly orthogonal where the input is (also with a reflection)."""
    rotation = dst_from_src[..., :3, :3].transpose(-1, -2)
    return rigid(rotation, -(rotation @ dst_from_src[..., :3, 3:]).squeeze(-1))


def transform_points(dst_from_src: Tensor, xyz_m: Tensor) -> Tensor:
    """Apply (*B, 4, 4) to (*B, P, 3) points."""
    return xyz_m @ dst_from_src[..., :3, :3].transpose(-1, -2) + dst_from_src[..., None, :3, 3]
