"""Absolute differences, plain and smooth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bev.models.losses.reduction import Reduction, reduce_loss
from bev.registry import MODELS


@MODELS.register_module()
class L1Loss(nn.Module):
    """Absolute difference.

    Args:
        loss_weight: factor of the result.
        reduction: of :meth:`forward`.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.loss_weight, self.reduction = loss_weight, reduction

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of every element, before weights and reduction."""
        return (prediction - target).abs()

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
    ) -> Tensor:
        """Loss of (M, K) predictions against (M, K) targets.

        Args:
            weight: (M, K) or (M,). Elements of weight 0 count nothing and may hold a NaN target (an unknown one).
            avg_factor: what the sum is divided by, e.g. the number of positives.
        """
        if weight is not None:
            used = (weight[:, None] if weight.ndim == 1 < target.ndim else weight) != 0
            target = torch.where(used, target, prediction.detach())
        loss = self.elements(prediction, target)
        return self.loss_weight * reduce_loss(loss, weight, self.reduction, avg_factor)


@MODELS.register_module()
class SmoothL1Loss(L1Loss):
    """Quadratic below ``beta``, linear above (Girshick, Fast R-CNN, ICCV 2015).

    Args:
        beta: where the two meet.
        loss_weight, reduction: as in :class:`L1Loss`.
    """

    def __init__(self, beta: float = 1.0, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(loss_weight, reduction)
        self.beta = beta

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of every element, before weights and reduction."""
        difference = (prediction - target).abs()
        return torch.where(difference < self.beta, 0.5 * difference.square() / self.beta, difference - 0.5 * self.beta)
