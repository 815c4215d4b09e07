"""Bias and activation in one pass: what stands between the two layers of a feed-forward network.

On CPU and inside compiled or exported graphs this is plain torch; on CUDA one Triton kernel a pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.exporting import is_recording
from bev.ops.triton import takes


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """``gelu(x + bias)`` with the error function (Hendrycks and Gimpel, arXiv 1606.08415), not its approximation.

    Args:
        x: (..., C) what a layer without its bias gives.
        bias: (C,).

    Returns:
        (..., C) in the dtype of ``x``. Computed in float32 at least, so that results of half precision are within one
        unit in the last place of the exact ones (plus 1e-5), gradients too. Differentiable once.

    Raises:
        ValueError: the shapes disagree.
    """
    return _apply("bias_gelu", x, bias, True)


def bias_relu(x: Tensor, bias: Tensor) -> Tensor:
    """``relu(x + bias)``; the gradient at 0 is 0, NaN stays NaN. Otherwise as :func:`bias_gelu`."""
    return _apply("bias_relu", x, bias, False)


def _apply(name: str, x: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    if not x.ndim or tuple(bias.shape) != (x.shape[-1],):
        raise ValueError(f"{name}: bias has shape {tuple(bias.shape)}, expected the last axis of {tuple(x.shape)}")
    if is_recording() or not takes(x.device) or not x.numel():
        return _bias_activation_reference(x, bias, gelu)
    return _bias_activation(x, bias, gelu)


def _bias_activation_reference(x: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    """Plain torch."""
    total = _total(x, bias)
    return (F.gelu(total) if gelu else F.relu(total)).to(x.dtype)


def _total(x: Tensor, bias: Tensor) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.to(wide) + bias.to(wide)


@torch.library.custom_op("bev::bias_activation", mutates_args=())
def _bias_activation(x: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    if takes(x.device) and x.numel():
        from bev.ops.triton import bias_activation as kernels

        return kernels.forward(x, bias, gelu)
    return _bias_activation_reference(x, bias, gelu).contiguous()


@_bias_activation.register_fake
def _(x: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@torch.library.custom_op("bev::bias_activation_backward", mutates_args=())
def _bias_activation_backward(grad: Tensor, x: Tensor, bias: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    """Gradients of x and, in float32 at least, of the bias."""
    if takes(x.device) and x.numel():
        from bev.ops.triton import bias_activation as kernels

        return kernels.backward(grad, x, bias, gelu)
    total = _total(x, bias)
    above = grad.to(total.dtype)
    below = torch.ops.aten.gelu_backward(above, total) if gelu else torch.where(total <= 0, 0.0, above)
    return below.to(x.dtype).contiguous(), below.reshape(-1, bias.shape[0]).sum(0)


@_bias_activation_backward.register_fake
def _(grad: Tensor, x: Tensor, bias: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), bias.new_empty(bias.shape, dtype=wide)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, ctx.gelu = inputs
    ctx.save_for_backward(x, bias)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    x, bias = ctx.saved_tensors
    of_x, of_bias = _bias_activation_backward(grad, x, bias, ctx.gelu)
    return of_x, of_bias.to(bias.dtype), None


_bias_activation.register_autograd(_backward, setup_context=_setup_context)
