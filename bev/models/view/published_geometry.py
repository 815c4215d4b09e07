"""Where the published lift-splat detectors place their frustum points, operation by operation.

LSS, BEVDet and BEVDepth send rays through ``linspace(0, W - 1)`` (not through the feature pixels' centres), take the
lower edge of every depth bin as its depth, and turn positions into cells by truncation toward zero, so that what lies
up to one cell before the grid's lower edges falls into its first cells. Published weights were trained on that.
Float32 in the published order of operations: a point on a cell's edge lands in the same cell.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bev.geometry.bev_grid import BEVGrid
from bev.structures import CameraRig


class SensorMatrices(NamedTuple):
    """A rig in the published terms; float32.

    Attributes:
        ref_from_cam_rotation: (B, N, 3, 3); with an augmented reference frame not orthonormal.
        ref_from_cam_translation_m: (B, N, 3).
        intrinsics: (B, N, 3, 3) px of the original image.
        image_rotation: (B, N, 3, 3), original px -> network px: the linear part of the image augmentation.
        image_translation_px: (B, N, 3), its shift; the third number is 0.
    """

    ref_from_cam_rotation: Tensor
    ref_from_cam_translation_m: Tensor
    intrinsics: Tensor
    image_rotation: Tensor
    image_translation_px: Tensor


def sensor_matrices(rig: CameraRig) -> SensorMatrices:
    """A rig with batch axis -> its published parts.

    Raises:
        ValueError: the image augmentation is a perspective one, which the published form cannot hold.
    """
    aug = rig.image_aug.double()
    last = aug.new_tensor([0.0, 0.0, 1.0])
    if not torch.allclose(aug[..., 2, :], last.expand_as(aug[..., 2, :])):
        raise ValueError("published lift-splat geometry knows affine image augmentation only, got a perspective one")
    ref_from_cam = torch.linalg.inv(rig.cam_from_ref.double())
    linear, shift = torch.zeros_like(aug), torch.zeros_like(aug[..., 2])
    linear[..., :2, :2], linear[..., 2, 2], shift[..., :2] = aug[..., :2, :2], 1.0, aug[..., :2, 2]
    parts = (ref_from_cam[..., :3, :3], ref_from_cam[..., :3, 3], rig.intrinsics, linear, shift)
    return SensorMatrices(*(part.float() for part in parts))


def edge_frustum(image_size_px: tuple[int, int], stride_px: int, depth_m: Tensor) -> Tensor:
    """(D, H, W, 3) u, v, depth of the published frustum: the first and last ray go through the border pixels' centres.

    Args:
        image_size_px: (H, W) of the network image.
        stride_px: network px per feature pixel.
        depth_m: (D,).
    """
    height, width = (side // stride_px for side in image_size_px)
    shape = (len(depth_m), height, width)
    u = torch.linspace(0, image_size_px[1] - 1, width).expand(shape)
    v = torch.linspace(0, image_size_px[0] - 1, height)[:, None].expand(shape)
    return torch.stack([u, v, depth_m.float()[:, None, None].expand(shape)], -1)


def lift(frustum: Tensor, sensors: SensorMatrices) -> Tensor:
    """Frustum points in the reference frame.

    Args:
        frustum: (D, H, W, 3) from :func:`edge_frustum`.

    Returns:
        (B, N, D, H, W, 3) m.
    """
    batch, cameras = sensors.intrinsics.shape[:2]
    shape = (batch, cameras, 1, 1, 1)
    with torch.autocast(frustum.device.type, enabled=False):
        points = frustum - sensors.image_translation_px.view(*shape, 3)
        undo = torch.linalg.inv(sensors.image_rotation).view(*shape, 3, 3)
        points = undo @ points.unsqueeze(-1)
        scaled = torch.cat([points[..., :2, :] * points[..., 2:, :], points[..., 2:, :]], -2)
        ref_from_rays = sensors.ref_from_cam_rotation @ torch.linalg.inv(sensors.intrinsics)
        points = (ref_from_rays.view(*shape, 3, 3) @ scaled).squeeze(-1)
        return points + sensors.ref_from_cam_translation_m.view(*shape, 3)


def truncated_cells(points_m: Tensor, low_m: Tensor, cell_m: Tensor) -> Tensor:
    """(..., 3) points -> (..., 3) int64 x, y, z cells, truncated toward zero and not limited to the grid."""
    return ((points_m - low_m) / cell_m).long()


def flat_cells(cells: Tensor, grid: BEVGrid) -> tuple[Tensor, Tensor]:
    """(..., 3) x, y, z cells -> flat index ``(z * Y + y) * X + x``, and whether it is inside the grid."""
    z_count, y_count, x_count = grid.shape
    count = cells.new_tensor([x_count, y_count, z_count])
    inside = ((cells >= 0) & (cells < count)).all(-1)
    x, y, z = cells.unbind(-1)
    return (z * y_count + y) * x_count + x, inside
