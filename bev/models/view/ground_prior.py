"""A start for depth distributions: most of what a vehicle's cameras see is flat ground."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bev.geometry.frustum import DepthBins
from bev.geometry.rays import pixel_rays
from bev.structures import CameraRig

# A Gaussian over log depth (vehicles tilt, bins are coarse), and a floor for what is not ground, without which the
# first steps are spent on unlearning it.
_SPREAD, _FLOOR = 0.12, 0.03


class GroundPrior(nn.Module):
    """Depth logits that peak where a pixel's ray meets a flat ground; a network adds what stands on it.

    Args:
        ground_m: height of the ground in the reference frame (0 in the ego frame, -1.84 in nuScenes' LiDAR frame).
        depth_bins: D intervals.
        stride_px: network px per feature pixel.
    """

    log_depth: Tensor

    def __init__(self, ground_m: float, depth_bins: DepthBins, stride_px: int) -> None:
        super().__init__()
        self.ground_m, self.stride_px = ground_m, stride_px
        self.gain = nn.Parameter(torch.ones(()))
        self.register_buffer("log_depth", depth_bins.centers_m().log(), persistent=False)

    def forward(self, rig: CameraRig) -> Tensor:
        """(B, N, H, W, D) float32 for a rig with batch axis; the last bin is the ground's above the horizon."""
        rise, _, camera_height, _ = pixel_rays(rig, self.stride_px).unbind(2)
        log_depth = (camera_height - self.ground_m).clamp(min=0.1).log() - (-rise).clamp(min=1e-4).log()
        off = (torch.minimum(log_depth, self.log_depth[-1]).unsqueeze(-1) - self.log_depth) / _SPREAD
        return self.gain * ((-off.square() / 2).exp() + _FLOOR).log()
