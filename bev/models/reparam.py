"""Parts with many branches in training that are one convolution afterwards, and the sums that make them one.

A block derives from :class:`Reparameterised`; :func:`switch_to_deploy` turns every one of a model. The results are
exact up to rounding, in evaluation mode: batch norms become constants.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Reparameterised(nn.Module, ABC):
    """A block that has a second, plain form."""

    @abstractmethod
    def switch_to_deploy(self) -> bool:
        """Take the plain form, in place; False where it has it already. Training is over then."""


def switch_to_deploy(model: nn.Module) -> int:
    """Give every reparameterised block of a model its plain form (in place); how many there were."""
    blocks = [module for module in model.modules() if isinstance(module, Reparameterised)]
    return sum(block.switch_to_deploy() for block in blocks)


def norm_as_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor ``gamma / sqrt(var + eps)`` and shift ``beta - mean factor`` of an evaluated batch norm, float64 (C,)."""
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return factor, norm.bias.double() - norm.running_mean.double() * factor


def fused_kernel(conv: nn.Conv2d | None, norm: nn.BatchNorm2d, size: int, groups: int = 1) -> tuple[Tensor, Tensor]:
    """A convolution and its batch norm as one kernel of ``size``, the smaller one padded (RepVGG, arXiv 2101.03697).

    Args:
        conv: of an odd kernel not above ``size``; None is the identity in ``groups`` groups.
        norm: after it.
        size: odd side of the result.
        groups: of the identity.

    Returns:
        kernel (C_out, C_in / groups, size, size) and bias (C_out,), float64.
    """
    factor, shift = norm_as_affine(norm)
    if conv is None:
        unit = torch.eye(norm.num_features // groups, dtype=torch.float64, device=factor.device)
        kernel = unit.repeat(groups, 1)[..., None, None]
    else:
        kernel = conv.weight.double()
        if conv.bias is not None:
            shift = shift + conv.bias.double() * factor
    pad = (size - kernel.shape[-1]) // 2
    return F.pad(kernel * factor[:, None, None, None], [pad] * 4), shift


def plain_conv(like: nn.Conv2d, kernel: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution of stride, groups, dtype and device of ``like`` with that kernel and bias, "same" padding."""
    channels, groups = kernel.shape[1] * like.groups, like.groups
    size, weight = kernel.shape[-1], like.weight
    stride, where = like.stride[0], {"device": weight.device, "dtype": weight.dtype}
    conv = nn.Conv2d(channels, len(kernel), size, stride, size // 2, groups=groups, **where)  # type: ignore[arg-type]
    conv.weight.data, conv.bias.data = kernel.to(weight.dtype), bias.to(weight.dtype)  # type: ignore[union-attr]
    return conv


def concatenated(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Convolutions of one map whose results are concatenated, as one (Diverse Branch Block, arXiv 2103.13425, IV).

    Raises:
        ValueError: they differ in kernel, stride, padding, dilation or input, or have groups.
    """
    first = convs[0]
    for conv in convs:
        same = all(getattr(conv, n) == getattr(first, n) for n in ("kernel_size", "stride", "padding", "dilation"))
        if not same or conv.groups != 1 or conv.in_channels != first.in_channels:
            raise ValueError(f"only like convolutions of one map become one: {first} and {conv}")
    bias = [c.weight.new_zeros(c.out_channels) if c.bias is None else c.bias for c in convs]
    joined = nn.Conv2d(
        first.in_channels,
        sum(conv.out_channels for conv in convs),
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        first.dilation,  # type: ignore[arg-type]
        device=first.weight.device,
        dtype=first.weight.dtype,
    )
    joined.weight.data = torch.cat([conv.weight.detach() for conv in convs])
    joined.bias.data = torch.cat([b.detach() for b in bias])  # type: ignore[union-attr]
    return joined
