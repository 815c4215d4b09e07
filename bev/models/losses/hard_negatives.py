"""Online hard negative mining."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def hard_negative_weights(logits: Tensor, labels: Tensor, negative: Tensor, ratio: float) -> Tensor:
    """Weights that keep the positives and, of each image, the hardest negatives (SSD, ECCV 2016, section 2.2).

    Args:
        logits: (B, P, C + 1), background last.
        labels: (B, P) int64, C for background.
        negative: (B, P) bool, negatives to choose from.
        ratio: negatives kept for each positive.

    Returns:
        (B, P) ones and zeros. An image without positives keeps no negative.
    """
    loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    positive = labels < logits.shape[-1] - 1
    weights = positive.float()
    for row, (hardness, candidates) in enumerate(zip(loss, negative)):
        count = min(int(ratio * int(positive[row].sum())), int(candidates.sum()))
        weights[row, torch.where(candidates, hardness, -torch.inf).topk(count).indices] = 1.0
    return weights
