"""Softmax of an attention matrix with scale, additive bias and boolean mask in one pass.

On CPU and inside compiled or exported graphs this is plain torch; on CUDA one Triton kernel a pass. Where the weights
themselves are not needed, ``torch.nn.functional.scaled_dot_product_attention`` is better: it never writes them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bev.ops.exporting import is_recording
from bev.ops.triton import takes


def masked_softmax(
    logits: Tensor,  # (B, heads, Q, S)
    forbidden: Tensor | None = None,  # (B or 1, heads or 1, Q or 1, S or 1) bool
    bias: Tensor | None = None,  # (B or 1, heads or 1, Q or 1, S or 1)
    scale: float = 1.0,
) -> Tensor:
    """``softmax(scale * logits + bias)`` over the last axis among the entries that are not forbidden.

    Args:
        logits: of Q queries to S keys.
        forbidden: True where a query must not look; broadcast to the logits (fewer axes mean the last ones).
        bias: added after scaling; broadcast likewise, e.g. (heads, Q, S) of relative positions.
        scale: of the logits, e.g. 1 / sqrt(channels of a head).

    Returns:
        (B, heads, Q, S) in the dtype of the logits; rows sum to 1, forbidden entries are 0 and so is every entry of a
        row that is forbidden as a whole (torch's softmax gives NaN there), its gradient too. A NaN that is not
        forbidden makes its row NaN. Computed in float32 at least, so that results of half precision are within one
        unit in the last place of the exact ones (plus 1e-5); gradients, which are computed from the rounded results,
        within four units of the largest part that is summed. Differentiable once with respect to logits and bias.

    Raises:
        ValueError: shapes or dtypes do not fit.
    """
    _check(logits, forbidden, bias)
    if is_recording() or not takes(logits.device) or not logits.numel():
        return _masked_softmax_reference(logits, forbidden, bias, scale)
    axes = [None if part is None else part[(None,) * (4 - part.ndim)] for part in (forbidden, bias)]
    return _masked_softmax(logits, *axes, scale)


def _check(logits: Tensor, forbidden: Tensor | None, bias: Tensor | None) -> None:
    if logits.ndim != 4:
        raise ValueError(f"masked_softmax: logits have shape {tuple(logits.shape)}, expected (B, heads, Q, S)")
    for name, part in (("forbidden", forbidden), ("bias", bias)):
        if part is None:
            continue
        axes = zip(reversed(part.shape), reversed(logits.shape))
        if part.ndim > 4 or any(size not in (1, full) for size, full in axes):
            raise ValueError(
                f"masked_softmax: {name} has shape {tuple(part.shape)}, which does not spread to {tuple(logits.shape)}"
            )
    if forbidden is not None and forbidden.dtype != torch.bool:
        raise ValueError(f"masked_softmax: forbidden has dtype {forbidden.dtype}, expected bool")


def _masked_softmax_reference(logits: Tensor, forbidden: Tensor | None, bias: Tensor | None, scale: float) -> Tensor:
    """Plain torch."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    value = logits.to(wide) * scale
    if bias is not None:
        value = value + bias.to(wide)
    if forbidden is None:
        return value.softmax(-1).to(logits.dtype)
    return value.masked_fill(forbidden, -math.inf).softmax(-1).masked_fill(forbidden, 0.0).to(logits.dtype)


@torch.library.custom_op("bev::masked_softmax", mutates_args=())
def _masked_softmax(logits: Tensor, forbidden: Tensor | None, bias: Tensor | None, scale: float) -> Tensor:
    if takes(logits.device) and logits.numel():
        from bev.ops.triton import masked_softmax as kernels

        return kernels.forward(logits, forbidden, bias, scale)
    return _masked_softmax_reference(logits, forbidden, bias, scale).contiguous()


@_masked_softmax.register_fake
def _(logits: Tensor, forbidden: Tensor | None, bias: Tensor | None, scale: float) -> Tensor:
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


@torch.library.custom_op("bev::masked_softmax_backward", mutates_args=())
def _masked_softmax_backward(grad: Tensor, share: Tensor) -> Tensor:
    """Gradient of the scaled, biased logits, in float32 at least."""
    wide = torch.promote_types(share.dtype, torch.float32)
    if takes(share.device) and share.numel():
        from bev.ops.triton import masked_softmax as kernels

        return kernels.backward(grad, share, wide)
    part = share.to(wide)
    product = torch.where(part == 0, 0.0, grad.to(wide) * part)  # also where what comes from above is infinite
    return torch.where(part == 0, 0.0, product - part * product.sum(-1, keepdim=True)).contiguous()


@_masked_softmax_backward.register_fake
def _(grad: Tensor, share: Tensor) -> Tensor:
    wide = torch.promote_types(share.dtype, torch.float32)
    return torch.empty(share.shape, dtype=wide, device=share.device)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, bias, ctx.scale = inputs
    ctx.bias = None if bias is None else (bias.shape, bias.dtype)
    ctx.save_for_backward(output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
    (share,) = ctx.saved_tensors
    below = _masked_softmax_backward(grad, share)
    of_bias = None if ctx.bias is None else below.sum_to_size(ctx.bias[0]).to(ctx.bias[1])
    return (below * ctx.scale).to(share.dtype), None, of_bias, None


_masked_softmax.register_autograd(_backward, setup_context=_setup_context)
