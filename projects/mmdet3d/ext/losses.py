"""Focal losses: values of every element, and their slopes (mmcv multiplies by the incoming gradient itself)."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops import sigmoid_focal_loss
from projects.mmdet3d.ext.gradients import pull_back

__all__ = [
    *("sigmoid_focal_loss_forward", "sigmoid_focal_loss_backward"),
    *("softmax_focal_loss_forward", "softmax_focal_loss_backward"),
]


def _class_weight(target: Tensor, weight: Tensor, classes: int) -> Tensor | float:
    """(M,) factor of each row: its class's; 1 where no weights are given and for background, which has none."""
    if not weight.numel():
        return 1.0
    known = (target >= 0) & (target < classes)
    return torch.where(known, weight[target.clamp(0, classes - 1)], 1)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss (M, C) of logits (M, C) and classes (M,) into ``output``."""
    factor = _class_weight(target, weight, input.shape[1])
    loss = sigmoid_focal_loss(input, target, gamma, alpha)
    output.copy_(loss * (factor[:, None] if isinstance(factor, Tensor) else factor))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the slope (M, C) into ``grad_input``."""
    factor = _class_weight(target, weight, input.shape[1])
    ones = torch.ones_like(input)
    (slope,) = pull_back(lambda x: sigmoid_focal_loss(x, target, gamma, alpha), (input,), ones)
    grad_input.copy_(slope * (factor[:, None] if isinstance(factor, Tensor) else factor))


def _chosen(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of each row's class, and which rows have one (a negative class has no loss)."""
    return softmax.gather(1, target.clamp(min=0)[:, None]).squeeze(1), target >= 0


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss (M,) of probabilities (M, C) and classes (M,) into ``output``."""
    probability, known = _chosen(input, target)
    log = probability.clamp(min=torch.finfo(torch.float32).tiny).log()
    loss = -alpha * (1 - probability) ** gamma * log * _class_weight(target, weight, input.shape[1])
    output.copy_(torch.where(known, loss, 0))


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the slope (M, C) with respect to the logits into ``grad_input``; ``buff`` is the compiled form's."""
    probability, known = _chosen(input, target)
    log, rest = probability.clamp(min=torch.finfo(torch.float32).tiny).log(), 1 - probability
    slope = alpha * (gamma * rest ** (gamma - 1) * probability * log - rest**gamma)
    slope = torch.where(known, slope * _class_weight(target, weight, input.shape[1]), 0)
    one_hot = target[:, None] == torch.arange(input.shape[1], device=input.device)
    grad_input.copy_(slope[:, None] * (one_hot.to(input.dtype) - input))
