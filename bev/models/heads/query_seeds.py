"""Queries that begin where the images already show objects, for heads that otherwise begin at learned points."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bev.models.heads.image_center_head import CenterMaps, ImageCenterHead
from bev.structures import CameraRig


class QuerySeeds(NamedTuple):
    """S peaks of the image heatmaps of each frame.

    Attributes:
        point_m: (B, S, 3) in the reference frame, lifted with the predicted depth; without gradient.
        label: (B, S) class of the peak.
        known: (B, S, C + num_classes) feature at the peak, and the classes' probabilities there.
    """

    point_m: Tensor
    label: Tensor
    known: Tensor


def query_seeds(
    image_head: ImageCenterHead, feature: Tensor, maps: CenterMaps, rig: CameraRig, count: int
) -> QuerySeeds:
    """The highest ``count`` peaks.

    Args:
        image_head: that made the maps.
        feature: (B, N, C, H, W) that it made them of.
        maps: its outputs.
        rig: calibration with the batch axis.
        count: S; fewer where there are fewer pixels.
    """
    seeds = image_head.seeds(maps, rig, count)
    pixels = feature.permute(0, 1, 3, 4, 2).flatten(1, 3)
    at_peak = pixels.gather(1, seeds.pixel.unsqueeze(-1).expand(-1, -1, pixels.shape[-1]))
    known = torch.cat([at_peak, seeds.probability.to(at_peak.dtype)], -1)
    return QuerySeeds(seeds.point_m, seeds.label, known)
