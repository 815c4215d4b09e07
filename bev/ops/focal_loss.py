"""Sigmoid focal loss against class indices, without a one-hot matrix and with its gradient in closed form."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.triton import takes


def sigmoid_focal_loss(logits: Tensor, label: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Focal loss of every (row, class) pair.

    Args:
        logits: (M, C), any float dtype; computed in float32 at least.
        label: (M,) integers; whatever is not in [0, C) is background: no class is positive.
        gamma: how much easy examples are played down.
        alpha: weight of positives, 1 - alpha that of negatives.

    Returns:
        (M, C) not reduced, in the logits' dtype. Differentiable (once).

    Raises:
        ValueError: shapes that do not fit.

    Reference: Lin et al., Focal Loss for Dense Object Detection (ICCV 2017), equation 5.
    """
    if logits.ndim != 2 or label.shape != logits.shape[:1]:
        shapes = f"{tuple(logits.shape)} and {tuple(label.shape)}"
        raise ValueError(f"sigmoid_focal_loss: expected logits (M, C) and labels (M,), got {shapes}")
    if takes(logits.device) and logits.numel():
        return _focal_loss(logits.contiguous(), label, gamma, alpha)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return _focal_loss(wide, label, gamma, alpha).to(logits.dtype)


def _focal_loss_reference(logits: Tensor, label: Tensor, gamma: float, alpha: float) -> Tensor:
    """The formula as written, over a one-hot matrix."""
    positive = label[:, None] == torch.arange(logits.shape[1], device=label.device)
    probability = torch.where(positive, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(positive, alpha, 1 - alpha)
    return -weight * (1 - probability) ** gamma * probability.log()


def _positives(label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    row = ((label >= 0) & (label < classes)).nonzero().squeeze(1)
    return row, label[row].long()


@torch.library.custom_op("bev::sigmoid_focal_loss", mutates_args=())
def _focal_loss(logits: Tensor, label: Tensor, gamma: float, alpha: float) -> Tensor:
    if takes(logits.device) and logits.numel():
        from bev.ops.triton import focal_loss as kernels

        return kernels.forward(logits, label, gamma, alpha)
    loss = logits.sigmoid().pow_(gamma).mul_(F.softplus(logits)).mul_(1 - alpha)
    where = _positives(label, logits.shape[1])
    chosen = logits[where]
    loss[where] = alpha * (-chosen).sigmoid() ** gamma * F.softplus(-chosen)
    return loss


@_focal_loss.register_fake
def _(logits: Tensor, label: Tensor, gamma: float, alpha: float) -> Tensor:
    return torch.empty_like(logits)


@torch.library.custom_op("bev::sigmoid_focal_loss_backward", mutates_args=())
def _focal_loss_backward(grad: Tensor, logits: Tensor, label: Tensor, gamma: float, alpha: float) -> Tensor:
    if takes(logits.device) and logits.numel():
        from bev.ops.triton import focal_loss as kernels

        return kernels.backward(grad, logits, label, gamma, alpha)
    slope = _slope(logits, gamma).mul_(1 - alpha)
    where = _positives(label, logits.shape[1])
    slope[where] = -alpha * _slope(-logits[where], gamma)
    return slope.mul_(grad)


def _slope(logits: Tensor, gamma: float) -> Tensor:
    """Derivative of ``p ** gamma * softplus(x)``."""
    p = logits.sigmoid()
    return p.pow(gamma).mul_(F.softplus(logits).mul_(1 - p).mul_(gamma).add_(p))


@_focal_loss_backward.register_fake
def _(grad: Tensor, logits: Tensor, label: Tensor, gamma: float, alpha: float) -> Tensor:
    return torch.empty_like(logits)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    logits, label, ctx.gamma, ctx.alpha = inputs
    ctx.save_for_backward(logits, label)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _focal_loss_backward(grad, *ctx.saved_tensors, ctx.gamma, ctx.alpha), None, None, None


_focal_loss.register_autograd(_backward, setup_context=_setup_context)
