"""Horizontal rays from the origin of the reference frame: the frame in which all directions look alike.

A camera sees an object's heading and distance relative to its viewing ray, so what a network predicts from images is
easiest to learn as steps along, across and above that ray, in proportion to the distance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bev.structures import CameraRig

# Nearer than this a point counts as this far away, so that steps in proportion to the range never vanish.
MIN_RANGE_M = 1.0
RAY_CHANNELS = 4  # of pixel_rays


def ray(point_m: Tensor) -> tuple[Tensor, Tensor]:
    """Direction and length of the horizontal ray to each point.

    Args:
        point_m: (..., 3) in the reference frame.

    Returns:
        direction: (..., 2) cosine and sine of the azimuth; (1, 0) at the origin.
        range_m: (...,) horizontal distance, at least ``MIN_RANGE_M``.
    """
    x, y = point_m[..., 0], point_m[..., 1]
    azimuth = torch.atan2(y, x)
    # Not torch.hypot, which has no ONNX form.
    range_m = (x.square() + y.square()).clamp(min=MIN_RANGE_M**2).sqrt()
    return torch.stack([azimuth.cos(), azimuth.sin()], -1), range_m


def rotate(xy: Tensor, direction: Tensor) -> Tensor:
    """(..., 2) vectors along and across the ray -> vectors of the reference frame (a rotation by the azimuth)."""
    along, across = xy.unbind(-1)
    cos, sin = direction.unbind(-1)
    return torch.stack([along * cos - across * sin, along * sin + across * cos], -1)


def pixel_rays(rig: CameraRig, stride_px: int) -> Tensor:
    """What calibration says about each feature pixel, the same for all cameras and directions.

    Depth along the optical axis follows from where a ray meets the ground, which a convolution cannot know: it sees
    neither the row it is in nor how the camera is mounted.

    Args:
        rig: with batch axis, network size (H, W) divisible by the stride.
        stride_px: network px per feature pixel; rays go through the feature pixels' centres.

    Returns:
        (B, N, RAY_CHANNELS, H / stride, W / stride) float32: rise and horizontal way of the ray for each metre of
        depth, the camera's height (m), and the log of the depth at which the ray has fallen by a metre (at most 200 m).
    """
    height, width = (size // stride_px for size in rig.image_size_px)
    u = (torch.arange(width, device=rig.device) + 0.5) * stride_px
    v = (torch.arange(height, device=rig.device) + 0.5) * stride_px
    pixel = torch.stack([u.expand(height, -1), v[:, None].expand(-1, width), torch.ones_like(u).expand(height, -1)])
    with torch.autocast(rig.device.type, enabled=False):
        direction = (rig.ref_from_img[..., :3, :3] @ pixel.flatten(1)).unflatten(-1, (height, width))
    rise, way = direction[:, :, 2], direction[:, :, :2].norm(dim=2)
    camera_height = rig.ref_from_img[..., 2, 3, None, None].expand_as(rise)
    return torch.stack([rise, way, camera_height, -(-rise).clamp(min=1 / 200).log()], 2)
