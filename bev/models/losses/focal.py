"""Sigmoid focal loss (Lin et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.losses.cross_entropy import full_precision, one_hot_rows
from bev.models.losses.reduction import Reduction, reduce_loss
from bev.registry import MODELS


def sigmoid_focal(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """Elements of the loss.

    Args:
        logits: (..., C).
        target: (..., C) 0 or 1, of the same dtype.

    Returns:
        (..., C) ``alpha_t (1 - p_t)^gamma (-log p_t)``.
    """
    probability = logits.sigmoid()
    miss = probability + target - 2 * probability * target  # 1 - p_t
    balance = alpha * target + (1 - alpha) * (1 - target)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * balance * miss.pow(gamma)


def activated_focal(probability: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """:func:`sigmoid_focal` of probabilities instead of logits."""
    miss = probability + target - 2 * probability * target
    balance = alpha * target + (1 - alpha) * (1 - target)
    return F.binary_cross_entropy(probability, target, reduction="none") * balance * miss.pow(gamma)


@MODELS.register_module()
class FocalLoss(nn.Module):
    """Sigmoid focal loss over class indices.

    Args:
        gamma: focusing exponent.
        alpha: weight of the positives.
        loss_weight: factor of the result.
        reduction: of :meth:`forward`.
        activated: inputs are probabilities already, not logits (TOOD).
        class_weight: factor of each class's column, e.g. larger for rare ones; None for one.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float = 0.25,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
        activated: bool = False,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        weights = None if class_weight is None else torch.tensor(list(class_weight), dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)
        self.gamma, self.alpha, self.loss_weight, self.reduction = gamma, alpha, loss_weight, reduction
        self.activated = activated

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
    ) -> Tensor:
        """Loss of (M, C) logits against (M,) int64 classes, C meaning background; computed in float32.

        Args:
            weight: (M,).
            avg_factor: what the sum is divided by, e.g. the number of positives.
        """
        return self.loss_weight * reduce_loss(self.elements(logits, target), weight, self.reduction, avg_factor)

    def elements(self, logits: Tensor, target: Tensor) -> Tensor:
        """(M, C) losses, before weights and reduction."""
        logits = full_precision(logits)
        focal = activated_focal if self.activated else sigmoid_focal
        found = focal(logits, one_hot_rows(target, logits.shape[1], logits.dtype), self.gamma, self.alpha)
        return found if self.class_weight is None else found * self.class_weight
