"""Refinement in the ray-aligned frame: steps, headings and velocities relative to the viewing ray."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bev.geometry.rays import ray, rotate
from bev.models.coders.box_refinement import MetricRange
from bev.registry import MODELS


@MODELS.register_module()
class RayRefinement(MetricRange):
    """Drop-in for ``SigmoidRefinement`` whose raw regression means the same in every direction and at every range.

    Raw entries 0, 1: steps along and across the ray, in shares of the range; 4: upward step in m; 6, 7: sine and
    cosine of the heading relative to the ray; 8, 9: velocity along and across it; 2, 3, 5: log sizes.

    Args:
        range_m: box that references are shares of.
        step_share: step of a raw regression of 1, as a share of the range.
    """

    def __init__(self, range_m: Sequence[float], step_share: float = 0.1) -> None:
        super().__init__(range_m)
        self.step_share = step_share

    def forward(self, raw: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Apply one layer's regression.

        Args:
            raw: (..., 10) float32.
            reference: (..., 3) share of the range.

        Returns:
            refined: (..., 3) new reference in [0, 1], not detached.
            code: (..., 10) box code in m, rad, m/s; its centre is not clamped.
        """
        point_m = self.to_metric(reference)
        direction, range_m = ray(point_m)
        step = rotate(raw[..., 0:2], direction) * (self.step_share * range_m.unsqueeze(-1))
        center = point_m + torch.cat([step, raw[..., 4:5]], -1)
        cos_sin = rotate(raw[..., [7, 6]], direction)
        velocity = rotate(raw[..., 8:10], direction)
        code = torch.cat(
            [center[..., :2], raw[..., 2:4], center[..., 2:], raw[..., 5:6], cos_sin.flip(-1), velocity], -1
        )
        return self.from_metric(center).clamp(0, 1), code
