"""Points along the viewing rays of feature pixels: what PETR-type methods know of a pixel's place."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.structures import CameraRig

_MIN_DEPTH_M = 1e-5


def ray_depths(low_m: float, high_m: float, count: int, increasing: bool = True) -> Tensor:
    """(count,) float32 depths from ``low_m`` towards ``high_m``.

    Args:
        low_m, high_m: the range; ``high_m`` itself is not reached.
        count: of depths.
        increasing: steps that grow linearly with the index (CaDDN's LID), else equal ones.
    """
    index = torch.arange(count, dtype=torch.float32)
    if increasing:
        return low_m + (high_m - low_m) / (count * (1 + count)) * index * (index + 1)
    return low_m + (high_m - low_m) / count * index


def ray_points(rig: CameraRig, pixels_px: Tensor, depths_m: Tensor) -> Tensor:
    """Points at several depths of each pixel.

    Args:
        rig: calibration with the batch axis.
        pixels_px: (P, 2) network px u, v, the same in every camera.
        depths_m: (D,) along the optical axis.

    Returns:
        (B, N, P, D, 3) float32 in the reference frame, m. Not differentiable with respect to the calibration.
    """
    depth = depths_m.clamp(min=_MIN_DEPTH_M)
    with torch.autocast(rig.device.type, enabled=False):
        scaled = (pixels_px[:, None] * depth[:, None]).float()
        homogeneous = torch.cat([scaled, depths_m.expand(scaled.shape[0], -1).unsqueeze(-1)], -1)
        matrix = rig.ref_from_img[..., None, None, :3, :]
        return (matrix[..., :3] @ homogeneous.unsqueeze(-1)).squeeze(-1) + matrix[..., 3]
