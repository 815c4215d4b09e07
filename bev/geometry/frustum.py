"""Depth bins and the frustum of points that lift-splat methods raise from every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bev.structures import CameraRig


@dataclass(frozen=True)
class DepthBins:
    """D depth intervals with edges ``edges_m`` (D + 1 rising values, m); bins are half open [low, high).

    Raises:
        ValueError: fewer than two edges, or edges that do not rise from above zero.
    """

    edges_m: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.edges_m, self.edges_m[1:]))
        if len(self.edges_m) < 2 or self.edges_m[0] <= 0 or not rising:
            raise ValueError(f"depth bin edges must rise from above 0, got {self.edges_m}")

    @staticmethod
    def linear(low_m: float, high_m: float, step_m: float) -> DepthBins:
        """Equal steps, as LSS and BEVDet have them."""
        count = round((high_m - low_m) / step_m)
        return DepthBins(tuple(low_m + i * step_m for i in range(count + 1)))

    @staticmethod
    def log(low_m: float, high_m: float, count: int) -> DepthBins:
        """Equal ratios: resolution that falls with distance, as appearance does."""
        ratio = high_m / low_m
        return DepthBins(tuple(low_m * ratio ** (i / count) for i in range(count + 1)))

    def __len__(self) -> int:
        return len(self.edges_m) - 1

    def centers_m(self) -> Tensor:
        """(D,) float32 middles."""
        edges = torch.tensor(self.edges_m, dtype=torch.float64)
        return ((edges[1:] + edges[:-1]) / 2).float()

    def index(self, depth_m: Tensor) -> Tensor:
        """(...,) depths -> (...,) int64 bins; -1 below the first edge and from the last edge on."""
        edges = torch.tensor(self.edges_m, dtype=depth_m.dtype, device=depth_m.device)
        bins = torch.bucketize(depth_m, edges, right=True) - 1
        return torch.where(bins < len(self), bins, -1)

    def certain_where(self, measured_m: Tensor, probability: Tensor) -> Tensor:
        """Distributions that are sure of what was measured.

        Args:
            measured_m: (...,) depths; those in no bin (0 for not measured) change nothing.
            probability: (..., D).

        Returns:
            (..., D): 1 in the measured depth's bin where there is one, else ``probability``.
        """
        index = self.index(measured_m)
        certain = torch.nn.functional.one_hot(index.clamp(min=0), len(self)).to(probability)
        return torch.where((index >= 0)[..., None], certain, probability)


def frustum_points(rig: CameraRig, centers_m: Tensor, stride_px: int) -> Tensor:
    """Points at every depth of every feature pixel.

    Args:
        rig: with batch axis, network size (H, W) divisible by the stride.
        centers_m: (D,) depths along the optical axis.
        stride_px: network px per feature pixel; rays go through the feature pixels' centres.

    Returns:
        (B, N, H / stride, W / stride, D, 3) float32 points in the reference frame, m.
    """
    height, width = (size // stride_px for size in rig.image_size_px)
    device = rig.device
    u = (torch.arange(width, device=device) + 0.5) * stride_px
    v = (torch.arange(height, device=device) + 0.5) * stride_px
    pixels_px = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)
    with torch.autocast(device.type, enabled=False):
        homogeneous = torch.cat([pixels_px, torch.ones_like(pixels_px[..., :1])], -1)
        # A point is its pixel's ray times its depth: one multiply-add a coordinate instead of a matrix product.
        rays = homogeneous.flatten(0, 1) @ rig.ref_from_img[..., :3, :3].transpose(-1, -2)
        origin_m = rig.ref_from_img[..., None, None, :3, 3]
        points_m = torch.addcmul(origin_m, rays[:, :, :, None], centers_m.to(device)[:, None])
    return points_m.unflatten(2, (height, width))
