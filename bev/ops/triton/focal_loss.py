"""Sigmoid focal loss and its gradient, each in one pass over the logits and without waiting for the device."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from bev.ops.triton.rows import compute_type

_BLOCK = 1024  # (row, class) pairs a program


@triton.jit
def _parts(logits, label, place, classes, mask, WIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Whether a pair is positive; its logit, turned round where it is; softplus of that and of its negative."""
    positive = tl.load(label + place // classes, mask, -1) == place % classes
    x = tl.load(logits + place, mask, 0.0).to(WIDE)
    x = tl.where(positive, -x, x)
    small = tl.exp(-tl.abs(x))
    # log(1 + small) without losing what 1 + small rounds away.
    total = 1 + small
    log = tl.where(total == 1, small, tl.log(total) * (small / tl.where(total == 1, 1.0, total - 1)))
    return positive, tl.where(x < 0, 0.0, x) + log, tl.where(x < 0, -x, 0.0) + log


@triton.jit
def _power(minus, gamma):  # type: ignore[no-untyped-def]
    """``sigmoid(x) ** gamma`` of ``softplus(-x)``."""
    return tl.where(gamma == 0, 1.0, tl.exp(-gamma * minus))


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    logits, label, gamma, alpha, out, count, classes, BLOCK: tl.constexpr, WIDE: tl.constexpr
):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    positive, plus, minus = _parts(logits, label, place, classes, place < count, WIDE)
    loss = tl.where(positive, alpha, 1 - alpha) * _power(minus, gamma) * plus
    tl.store(out + place, loss.to(out.dtype.element_ty), place < count)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, logits, label, gamma, alpha, out, count, classes, BLOCK: tl.constexpr, WIDE: tl.constexpr
):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    positive, plus, minus = _parts(logits, label, place, classes, place < count, WIDE)
    # plus * (1 - p) has a limit of 0 where p is 1 and plus infinite.
    rest = tl.exp(-plus)
    slope = _power(minus, gamma) * (tl.where(rest == 0, 0.0, plus * rest) * gamma + tl.exp(-minus))
    slope *= tl.where(positive, -alpha, 1 - alpha) * tl.load(grad + place, place < count, 0.0).to(WIDE)
    tl.store(out + place, slope.to(out.dtype.element_ty), place < count)


def forward(logits: Tensor, label: Tensor, gamma: float, alpha: float) -> Tensor:
    """As ``bev.ops.focal_loss._focal_loss_reference``, in the logits' dtype; not empty."""
    logits = logits.contiguous()
    out = logits.new_empty(logits.shape)
    sizes = {"BLOCK": _BLOCK, "WIDE": compute_type(logits.dtype)}
    inputs = logits, label.contiguous(), float(gamma), float(alpha)
    _forward[(triton.cdiv(out.numel(), _BLOCK),)](*inputs, out, out.numel(), out.shape[1], **sizes)
    return out


def backward(grad: Tensor, logits: Tensor, label: Tensor, gamma: float, alpha: float) -> Tensor:
    """Gradient of the logits; not empty."""
    logits = logits.contiguous()
    out = logits.new_empty(logits.shape)
    sizes = {"BLOCK": _BLOCK, "WIDE": compute_type(logits.dtype)}
    inputs = grad.contiguous(), logits, label.contiguous(), float(gamma), float(alpha)
    _backward[(triton.cdiv(out.numel(), _BLOCK),)](*inputs, out, out.numel(), out.shape[1], **sizes)
    return out
