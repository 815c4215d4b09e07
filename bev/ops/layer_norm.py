"""Bias, residual and layer norm in one pass: what follows a projection in a transformer.

On CPU and inside compiled or exported graphs this is plain torch, which is as fast there; on CUDA one Triton kernel
reads every input once, where eager torch writes and reads the sums in between.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.exporting import is_recording
from bev.ops.triton import takes


def add_layer_norm(
    x: Tensor,  # (..., C)
    gamma: Tensor,  # (C,)
    beta: Tensor,  # (C,)
    bias: Tensor | None = None,  # (C,)
    residual: Tensor | None = None,  # (..., C)
    eps: float = 1e-5,
) -> Tensor:
    """Layer norm over the last axis of ``x + bias + residual``.

    Args:
        x: what a projection without its bias gives.
        gamma, beta: factor and shift of the norm.
        bias: of the projection.
        residual: the shortcut, of the shape of ``x``.
        eps: added to the variance.

    Returns:
        (..., C) in the wider dtype of ``x`` and ``residual``. Computed in float32 at least, so that results of half
        precision are within one unit in the last place of the exact ones (plus 1e-5); gradients, for which the sum
        is kept in the result's dtype, within four units of the largest part that is summed. Differentiable once with
        respect to all tensors.

    Raises:
        ValueError: the shapes disagree, or there are no columns.

    Reference: Ba et al., Layer Normalization, arXiv 1607.06450; ``torch.nn.functional.layer_norm``.
    """
    return _apply(x, gamma, beta, bias, residual, eps, False)[0]


def add_layer_norm_with_sum(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """As :func:`add_layer_norm`, and the sum itself, rounded to the result's dtype: the next shortcut of a network
    that normalises before its layers."""
    return _apply(x, gamma, beta, bias, residual, eps, True)


def _apply(
    x: Tensor, gamma: Tensor, beta: Tensor, bias: Tensor | None, residual: Tensor | None, eps: float, with_sum: bool
) -> tuple[Tensor, Tensor]:
    _check(x, gamma, beta, bias, residual)
    if is_recording() or not takes(x.device) or not x.numel():
        return _add_layer_norm_reference(x, gamma, beta, bias, residual, eps)
    given = [part for part in (x, gamma, beta, bias, residual) if part is not None]
    keep = with_sum or (torch.is_grad_enabled() and any(part.requires_grad for part in given))
    normed, total, _, _ = _add_layer_norm(x, residual, bias, gamma, beta, eps, keep)
    return normed, total


def _check(x: Tensor, gamma: Tensor, beta: Tensor, bias: Tensor | None, residual: Tensor | None) -> None:
    columns = (x.shape[-1],) if x.ndim else ()
    if columns in ((), (0,)):
        raise ValueError(f"add_layer_norm: x has shape {tuple(x.shape)}, expected at least one column")
    expected = {"gamma": (gamma, columns), "beta": (beta, columns), "bias": (bias, columns)}
    for name, (tensor, shape) in {**expected, "residual": (residual, tuple(x.shape))}.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"add_layer_norm: {name} has shape {tuple(tensor.shape)}, expected {shape}")


def _out_dtype(x: Tensor, residual: Tensor | None) -> torch.dtype:
    return x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)


def _total(x: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
    """The sum in float32 at least."""
    wide = torch.promote_types(_out_dtype(x, residual), torch.float32)
    total = _as(x, wide)
    for part in (bias, residual):
        total = total if part is None else total + part  # float32 + half is computed in float32
    return total


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """What is registered may not return what it was given, not even on the way (opcheck)."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _add_layer_norm_reference(
    x: Tensor, gamma: Tensor, beta: Tensor, bias: Tensor | None, residual: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Plain torch: the norm and the sum."""
    dtype, total = _out_dtype(x, residual), _total(x, bias, residual)
    normed = F.layer_norm(total, gamma.shape, gamma.to(total.dtype), beta.to(total.dtype), eps)
    return normed.to(dtype), total.to(dtype)


@torch.library.custom_op("bev::add_layer_norm", mutates_args=())
def _add_layer_norm(
    x: Tensor, residual: Tensor | None, bias: Tensor | None, gamma: Tensor, beta: Tensor, eps: float, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The norm, the sum (empty unless it is kept), and of every row the mean and 1 / deviation."""
    dtype = _out_dtype(x, residual)
    if takes(x.device) and x.numel():
        from bev.ops.triton import layer_norm as kernels

        return kernels.forward(x, residual, bias, gamma, beta, eps, keep, dtype)
    total = _total(x, bias, residual)
    parts = torch.native_layer_norm(total, gamma.shape, gamma.to(total.dtype), beta.to(total.dtype), eps)
    normed, mean, rstd = parts[0].to(dtype), parts[1].flatten(), parts[2].flatten()
    kept = total.to(dtype) if keep else normed.new_empty(0)
    return _own(normed, x), _own(kept, x), mean, rstd


def _own(result: Tensor, x: Tensor) -> Tensor:
    """What an operator returns must not be what it was given."""
    return result.clone() if result.data_ptr() == x.data_ptr() else result.contiguous()


@_add_layer_norm.register_fake
def _(
    x: Tensor, residual: Tensor | None, bias: Tensor | None, gamma: Tensor, beta: Tensor, eps: float, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = _out_dtype(x, residual)
    normed = torch.empty(x.shape, dtype=dtype, device=x.device)
    rows = normed.new_empty(math.prod(x.shape[:-1]), dtype=torch.promote_types(dtype, torch.float32))
    return normed, torch.empty_like(normed) if keep else normed.new_empty(0), rows, torch.empty_like(rows)


@torch.library.custom_op("bev::add_layer_norm_backward", mutates_args=())
def _add_layer_norm_backward(
    grad: Tensor, grad_total: Tensor | None, total: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the sum, and in float32 at least of gamma, beta and the bias."""
    if takes(total.device) and total.numel():
        from bev.ops.triton import layer_norm as kernels

        return kernels.backward(grad, grad_total, total, gamma, mean, rstd)
    rows, factor = (*total.shape[:-1], 1), gamma.to(mean.dtype)
    below, of_gamma, of_beta = torch.ops.aten.native_layer_norm_backward(
        grad.to(mean.dtype), total.to(mean.dtype), gamma.shape, mean.view(rows), rstd.view(rows), factor, factor,
        [True, True, True],
    )  # fmt: skip
    below = (below if grad_total is None else below + grad_total).to(total.dtype)
    return below.contiguous(), of_gamma, of_beta, below.to(mean.dtype).reshape(-1, total.shape[-1]).sum(0)


@_add_layer_norm_backward.register_fake
def _(
    grad: Tensor, grad_total: Tensor | None, total: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    below = torch.empty(total.shape, dtype=total.dtype, device=total.device)
    return below, *(mean.new_empty(total.shape[-1]) for _ in range(3))  # type: ignore[return-value]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, residual, bias, gamma, _, _, ctx.keep = inputs
    normed, total, mean, rstd = output
    ctx.set_materialize_grads(False)
    ctx.dtypes = [None if part is None else part.dtype for part in inputs[:5]]
    if not ctx.keep:
        total = _as(_total(x, bias, residual), normed.dtype)
    ctx.save_for_backward(total, gamma, mean, rstd)


def _backward(ctx: Any, grad: Tensor | None, grad_total: Tensor | None, *unused: Any) -> tuple[Any, ...]:
    total, gamma, mean, rstd = ctx.saved_tensors
    grad = torch.zeros_like(total) if grad is None else grad
    grad_total = grad_total if ctx.keep else None
    below, of_gamma, of_beta, of_bias = _add_layer_norm_backward(grad, grad_total, total, gamma, mean, rstd)
    grads = zip((below, below, of_bias, of_gamma, of_beta), ctx.dtypes)
    return *(None if dtype is None else part.to(dtype) for part, dtype in grads), None, None


_add_layer_norm.register_autograd(_backward, setup_context=_setup_context)
