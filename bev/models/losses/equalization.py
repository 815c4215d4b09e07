"""Losses for long-tailed classes: rare ones are not pushed down by the positives of frequent ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.losses.cross_entropy import full_precision, one_hot_rows
from bev.models.losses.reduction import Reduction, reduce_loss
from bev.registry import MODELS


@MODELS.register_module()
class EqualizationLoss(nn.Module):
    """Sigmoid cross entropy without the negatives of rare classes on foreground (Tan et al., CVPR 2020, equation 3).

    ``-sum_j w_j log p^_j`` with ``w_j = 1 - E(r) T(f_j) (1 - y_j)``: E is 1 on foreground and 0 on background, T is 1
    where the class's frequency is below ``threshold``.

    Args:
        frequency: share of the pictures that have a class, one number each.
        threshold: published for LVIS 0.5: 1.77e-3.
        loss_weight: factor of the result.
        reduction: of :meth:`forward`; a mean is over the rows (regions), as published.

    Raises:
        ValueError: frequencies that are no shares.
    """

    rare: Tensor

    def __init__(
        self,
        frequency: Sequence[float],
        threshold: float = 1.77e-3,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        shares = torch.tensor(list(frequency), dtype=torch.float32)
        if not len(shares) or bool(((shares < 0) | (shares > 1)).any()):
            raise ValueError("EqualizationLoss frequency needs one share between 0 and 1 for every class")
        self.register_buffer("rare", (shares < threshold).float(), persistent=False)
        self.loss_weight, self.reduction = loss_weight, reduction

    def elements(self, logits: Tensor, target: Tensor) -> Tensor:
        """(M, C) losses, before weights and reduction.

        Raises:
            ValueError: another number of classes than of frequencies.
        """
        logits = full_precision(logits)
        if logits.shape[1] != len(self.rare):
            raise ValueError(f"EqualizationLoss has {len(self.rare)} frequencies for {logits.shape[1]} classes")
        wanted = one_hot_rows(target, logits.shape[1], logits.dtype)
        foreground = (target < logits.shape[1]).to(logits.dtype)[:, None]
        weight = 1 - foreground * self.rare * (1 - wanted)
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
    ) -> Tensor:
        """Loss of (M, C) logits against (M,) int64 classes, C meaning background; ``weight`` (M,)."""
        if avg_factor is None and self.reduction == "mean":
            avg_factor = float(max(len(logits), 1))
        return self.loss_weight * reduce_loss(self.elements(logits, target), weight, self.reduction, avg_factor)
