"""Focal loss for Gaussian heatmaps (CornerNet, arXiv 1808.01244, equation 1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def gaussian_focal_loss(logits: Tensor, target: Tensor, alpha: float = 2.0, gamma: float = 4.0) -> Tensor:
    """Summed loss over a heatmap; divide by the number of objects.

    Args:
        logits: any shape, before the sigmoid.
        target: same shape, in [0, 1]; exactly 1 at object centres.
        alpha: focusing exponent.
        gamma: how much the cells near a centre are forgiven.

    Returns:
        scalar float32, finite for any finite logits (softplus instead of a clamped logarithm).
    """
    logits, target = logits.float(), target.float()
    # -log(1 - p) = softplus(x); the factor (1 - target) leaves nothing of it at the centres, which are few.
    negative = F.softplus(logits) * logits.sigmoid() ** alpha * (1 - target) ** gamma
    centers = -logits[target == 1]
    positive = F.softplus(centers) * centers.sigmoid() ** alpha
    return negative.sum() + positive.sum()
