"""Horizontal rays from the origin of the reference frame: the frame in which all directions look alike.

A camera sees an object's heading and distance relative to its viewing ray, so what a network predicts from images is
easiest to learn as steps along, across and above that ray, in proportion to the distance.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Nearer than this a point counts as this far away, so that steps in proportion to the range never vanish.
MIN_RANGE_M = 1.0


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
    return torch.stack([azimuth.cos(), azimuth.sin()], -1), torch.hypot(x, y).clamp(min=MIN_RANGE_M)


def rotate(xy: Tensor, direction: Tensor) -> Tensor:
    """(..., 2) vectors along and across the ray -> vectors of the reference frame (a rotation by the azimuth)."""
    along, across = xy.unbind(-1)
    cos, sin = direction.unbind(-1)
    return torch.stack([along * cos - across * sin, along * sin + across * cos], -1)
