"""The published forms of depth supervision from LiDAR."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.geometry.frustum import DepthBins
from bev.registry import MODELS


@MODELS.register_module()
class DepthSupervision:
    """Binary cross entropy of depth bins against the nearest LiDAR depth in a feature pixel.

    Args:
        weight: of the term; 3 in BEVDepth and BEVDet's second generation, 100 in its first.
        form: ``"softmax"`` (BEVDepth, arXiv 2206.10092, equation 4): of the distribution, summed over the bins,
            averaged over the pixels with a depth in a bin. ``"sigmoid"`` (BEVDet's first generation): of each bin's own
            probability, averaged over all bins of all pixels; pixels without a depth count as zero, depths before the
            first bin as in it, those behind the last as without.
    """

    def __init__(self, weight: float = 3.0, form: Literal["softmax", "sigmoid"] = "softmax") -> None:
        if form not in ("softmax", "sigmoid"):
            raise ValueError(f"form is 'softmax' or 'sigmoid', got {form!r}")
        self.weight, self.form = weight, form

    def count(self, target_m: Tensor, bins: DepthBins) -> Tensor:
        """Scalar float: what :meth:`__call__` divides by."""
        if self.form == "sigmoid":
            return target_m.new_tensor(float(target_m.numel() * len(bins)))
        return (bins.index(target_m) >= 0).sum().float()

    def __call__(self, depth_logits: Tensor, target_m: Tensor, bins: DepthBins, count: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            depth_logits: (B, N, H, W, D).
            target_m: (B, N, H, W) m, 0 where there is no depth.
            bins: D bins.
            count: of :meth:`count`, or its mean over micro-batches and processes.
        """
        index = bins.index(target_m)
        if self.form == "sigmoid":
            index = torch.where((target_m > 0) & (target_m < bins.edges_m[0]), 0, index)
        known = index >= 0
        logits = depth_logits[known]
        with torch.autocast(logits.device.type, enabled=False):
            one_hot = F.one_hot(index[known], len(bins)).float()
            if self.form == "sigmoid":
                total = F.binary_cross_entropy_with_logits(logits.float(), one_hot, reduction="sum")
            else:
                total = F.binary_cross_entropy(logits.float().softmax(-1), one_hot, reduction="sum")
        return self.weight * total / count.clamp(min=1.0)
