"""From loss elements to one number, as every loss here does it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

Reduction = Literal["none", "mean", "sum"]


def reduce_loss(
    loss: Tensor, weight: Tensor | None, reduction: Reduction, avg_factor: Tensor | float | None = None
) -> Tensor:
    """Weigh and reduce.

    Args:
        loss: elements.
        weight: broadcastable to ``loss``, or (M,) for its first axis.
        reduction: how to reduce; a mean is taken over all elements, weighted or not.
        avg_factor: what a mean divides by instead, e.g. the number of positives.

    Raises:
        ValueError: ``avg_factor`` with a reduction that does not divide.
    """
    if weight is not None:
        loss = loss * (weight.reshape(-1, *[1] * (loss.ndim - 1)) if weight.ndim == 1 < loss.ndim else weight)
    if avg_factor is None:
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]
    if reduction != "mean":
        raise ValueError(f"avg_factor needs reduction 'mean', got {reduction!r}")
    return loss.sum() / avg_factor


class PairLoss(nn.Module, ABC):
    """A loss between predictions and targets of one shape, given by its elements.

    Args:
        loss_weight: factor of the result.
        reduction: of :meth:`forward`.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.loss_weight, self.reduction = loss_weight, reduction

    @abstractmethod
    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of every element (or of every row), before weights and reduction."""

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
            target = torch.where(used, target, torch.zeros_like(target))
        loss = self.elements(prediction, target)
        return self.loss_weight * reduce_loss(loss, weight, self.reduction, avg_factor)
