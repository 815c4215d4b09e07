"""Depth supervision from LiDAR (BEVDepth, arXiv 2206.10092)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.geometry.frustum import DepthBins
from bev.geometry.projection import in_image, project
from bev.structures import CameraRig, PointCloud


def lidar_depth_targets(points: Sequence[PointCloud], rig: CameraRig, stride_px: int) -> Tensor:
    """Nearest LiDAR depth in every feature pixel.

    Args:
        points: B clouds in the reference frame.
        rig: with batch axis.
        stride_px: network px per feature pixel.

    Returns:
        (B, N, H / stride, W / stride) m along the optical axis; 0 where no point falls.
    """
    height, width = (size // stride_px for size in rig.image_size_px)
    targets = []
    for i, cloud in enumerate(points):
        pixels_px, depth_m = project(cloud.xyz_m, rig.img_from_ref[i])
        visible = in_image(pixels_px, depth_m, (height * stride_px, width * stride_px))
        column, row = (pixels_px / stride_px).long().unbind(-1)
        camera = torch.arange(rig.num_cameras, device=depth_m.device)[:, None]
        cell = ((camera * height + row) * width + column)[visible]
        nearest = depth_m.new_full((rig.num_cameras * height * width,), torch.inf)
        nearest = nearest.scatter_reduce(0, cell, depth_m[visible], "amin")
        targets.append(torch.where(nearest.isinf(), 0.0, nearest).view(rig.num_cameras, height, width))
    return torch.stack(targets)


def depth_loss(depth_logits: Tensor, target_m: Tensor, bins: DepthBins) -> Tensor:
    """Summed cross entropy over pixels whose target falls into a bin; divide by their number.

    Args:
        depth_logits: (B, N, H, W, D).
        target_m: (B, N, H, W), as from :func:`lidar_depth_targets`.
    """
    index = bins.index(target_m)
    return F.cross_entropy(depth_logits.flatten(0, 3).float(), index.flatten(), ignore_index=-1, reduction="sum")
