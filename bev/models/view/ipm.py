"""Inverse perspective mapping: the baseline that knows calibration but no depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.projection import in_image, project
from bev.models.view.lift_splat import LiftSplatOutput
from bev.ops.camera_sampling import camera_sampling
from bev.registry import MODELS
from bev.structures import CameraRig


@MODELS.register_module()
class InversePerspective(nn.Module):
    """Every cell takes what the cameras show at its place on a few horizontal planes (Mallot et al., Biol. Cyb. 1991).

    Exact on a flat ground; what stands up is smeared along its ray. A drop-in for the lift-splat view transforms, with
    no depth logits (D = 0).

    Args:
        in_channels: of the image features.
        out_channels: C of the result for each plane.
        grid: cells in the reference frame.
        stride_px: network px per feature pixel.
        heights_m: of the planes in the reference frame; their features are stacked. The ground lies near -1.8 m in
            nuScenes' LiDAR frame and at 0 m in its ego frame.
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: BEVGrid, stride_px: int, heights_m: Sequence[float] = (0.0,)
    ) -> None:
        super().__init__()
        if not heights_m:
            raise ValueError("InversePerspective needs at least one of heights_m")
        self.grid, self.stride_px, self.heights_m = grid, stride_px, tuple(heights_m)
        self.reduce = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor, rig: CameraRig, measured_m: Tensor | None = None) -> LiftSplatOutput:
        """(B, N, C_in, H, W) features -> grid (B, planes * C, Y, X): the mean of the cameras that see a cell, zero
        where none does. ``measured_m`` is not used."""
        batch, cameras = features.shape[:2]
        reduced = self.reduce(features.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        reduced = reduced.unflatten(0, (batch, cameras)).float()
        _, y_count, x_count = self.grid.shape
        centers = self.grid.centers_m(features.device).flatten(0, 1)
        planes = []
        for height in self.heights_m:
            points = torch.cat([centers, torch.full_like(centers[:, :1], height)], -1).expand(batch, -1, -1)
            pixels_px, depth_m = project(points, rig.img_from_ref)
            visible = in_image(pixels_px, depth_m, rig.image_size_px)
            share = visible / visible.sum(1, keepdim=True).clamp(min=1)
            weights = share.transpose(1, 2)[..., None, None]
            sampled = camera_sampling([reduced], pixels_px[..., None, :], visible[..., None], weights, rig.image_size_px)
            planes.append(sampled.transpose(1, 2).unflatten(2, (y_count, x_count)))
        no_depth = features.new_zeros(batch, cameras, *features.shape[-2:], 0)
        return LiftSplatOutput(torch.cat(planes, 1), no_depth)
