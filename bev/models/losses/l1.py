"""Differences of numbers: absolute, smooth, balanced, squared."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bev.models.losses.reduction import PairLoss, Reduction
from bev.registry import MODELS


@MODELS.register_module()
class L1Loss(PairLoss):
    """Absolute difference."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs()


@MODELS.register_module()
class MSELoss(PairLoss):
    """Squared difference."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square()


@MODELS.register_module()
class SmoothL1Loss(PairLoss):
    """Quadratic below ``beta``, linear above (Girshick, Fast R-CNN, ICCV 2015).

    Args:
        beta: where the two meet.
        loss_weight, reduction: as in :class:`PairLoss`.
    """

    def __init__(self, beta: float = 1.0, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(loss_weight, reduction)
        self.beta = beta

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return smooth_l1((prediction - target).abs(), self.beta)


@MODELS.register_module()
class BalancedL1Loss(PairLoss):
    """Smooth L1 whose small differences have more gradient (Libra R-CNN, CVPR 2019, equation 9).

    Args:
        alpha: gradient of small differences.
        gamma: gradient of differences above ``beta``.
        beta: where the two meet.
        loss_weight, reduction: as in :class:`PairLoss`.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        gamma: float = 1.5,
        beta: float = 1.0,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(loss_weight, reduction)
        self.alpha, self.gamma, self.beta = alpha, gamma, beta

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        difference, base = (prediction - target).abs(), math.exp(self.gamma / self.alpha) - 1
        scaled = base * difference / self.beta
        small = self.alpha / base * (scaled * self.beta + 1) * (scaled + 1).log() - self.alpha * difference
        large = self.gamma * difference + self.gamma / base - self.alpha * self.beta
        return torch.where(difference < self.beta, small, large)


def smooth_l1(difference: Tensor, beta: float) -> Tensor:
    """Absolute differences -> quadratic below ``beta``, linear above."""
    return torch.where(difference < beta, 0.5 * difference.square() / beta, difference - 0.5 * beta)
