"""How a decoder layer's raw regression moves its reference point and becomes a box code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.registry import MODELS


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logit of values clamped into [0, 1], numerator and denominator at least ``eps`` (as in Deformable DETR)."""
    # One clamp for the first term: the ONNX optimiser breaks two in a row.
    return x.clamp(eps, 1.0).log() - (1 - x.clamp(0.0, 1.0)).clamp(min=eps).log()


class MetricRange(nn.Module):
    """The box of the reference frame that normalised points live in.

    Args:
        range_m: x, y, z of the lower, then of the upper corner.

    Raises:
        ValueError: not six numbers, or an empty box.
    """

    low_m: Tensor
    span_m: Tensor

    def __init__(self, range_m: Sequence[float]) -> None:
        super().__init__()
        if len(range_m) != 6 or any(low >= high for low, high in zip(range_m[:3], range_m[3:])):
            raise ValueError(f"range_m must be x, y, z of two corners, the lower one first, got {tuple(range_m)}")
        self.range_m = tuple(float(value) for value in range_m)
        low, high = torch.tensor(range_m, dtype=torch.float32).view(2, 3)
        self.register_buffer("low_m", low, persistent=False)  # published weights carry no such keys
        self.register_buffer("span_m", high - low, persistent=False)

    def to_metric(self, share: Tensor) -> Tensor:
        """(..., 3) in [0, 1] -> m."""
        return share * self.span_m + self.low_m

    def from_metric(self, point_m: Tensor) -> Tensor:
        """(..., 3) m -> share of the range, beyond [0, 1] outside of it."""
        return (point_m - self.low_m) / self.span_m


@MODELS.register_module()
class SigmoidRefinement(MetricRange):
    """DETR3D's iterative refinement: the centre moves in the logits of its share of the range.

    Raw regression and box code have the layout of ``conventions.encode_detr``; only entries 0, 1 (x, y) and 4 (z) of
    the raw regression are relative to the reference, all others are the code itself.
    """

    def forward(self, raw: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Apply one layer's regression.

        Args:
            raw: (..., 10) float32.
            reference: (..., 3) share of the range in [0, 1].

        Returns:
            refined: (..., 3) new reference, not detached.
            code: (..., 10) box code in m, rad, m/s.
        """
        moved = torch.cat([raw[..., 0:2], raw[..., 4:5]], -1) + inverse_sigmoid(reference)
        refined = moved.sigmoid()
        center = self.to_metric(refined)
        code = torch.cat([center[..., :2], raw[..., 2:4], center[..., 2:], raw[..., 5:]], -1)
        return refined, code
