"""Content-aware upsampling (CARAFE): every fine pixel is a predicted mixture of its coarse neighbourhood."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.exporting import is_exporting
from bev.ops.triton import takes


def carafe(maps: Tensor, masks: Tensor, kernel_size: int, scale: int) -> Tensor:
    """Upsample by reassembly.

    Args:
        maps: (B, C, H, W).
        masks: (B, G * kernel_size^2, H * scale, W * scale) share of each neighbour, row-major from the upper left one;
            published networks pass a softmax over the neighbours. G groups of channels have masks of their own.
        kernel_size: odd side of the neighbourhood, centred on the coarse pixel that a fine one lies in.
        scale: fine pixels per coarse one along each side.

    Returns:
        (B, C, H * scale, W * scale) in the dtype of ``maps``; neighbours outside the map are zero. Differentiable.

    Raises:
        ValueError: an even kernel, or shapes that do not fit.

    Reference: Wang et al., CARAFE (ICCV 2019), equation 3.
    """
    batch, channels, height, width = maps.shape
    area = kernel_size * kernel_size
    groups = masks.shape[1] // area
    expected = (batch, groups * area, height * scale, width * scale)
    if not kernel_size % 2 or not groups or channels % groups or tuple(masks.shape) != expected:
        raise ValueError(
            f"carafe: maps {tuple(maps.shape)}, kernel {kernel_size} (odd) and scale {scale} need masks "
            f"(B, G * {area}, {height * scale}, {width * scale}), got {tuple(masks.shape)}"
        )
    if takes(maps.device) and not is_exporting() and maps.numel():
        return _fused(maps, masks, kernel_size, scale)
    # A coarse pixel's neighbourhood serves its scale^2 fine ones: one small matrix product a pixel.
    neighbours = F.unfold(maps, kernel_size, padding=kernel_size // 2)
    neighbours = neighbours.view(batch, groups, channels // groups, area, height * width)
    shares = masks.to(maps.dtype).view(batch, groups, area, height, scale, width, scale)
    shares = shares.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, groups, height * width, area, scale * scale)
    fine = neighbours.permute(0, 1, 4, 2, 3) @ shares
    fine = fine.view(batch, groups, height, width, channels // groups, scale, scale)
    return fine.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, channels, height * scale, width * scale)


def _carafe_reference(maps: Tensor, masks: Tensor, kernel_size: int, scale: int) -> Tensor:
    """The plainest form: each neighbour's shifted map, enlarged, times its mask."""
    channels, (height, width), groups = maps.shape[1], maps.shape[2:], masks.shape[1] // kernel_size**2
    padded = F.pad(maps, [kernel_size // 2] * 4)
    total = maps.new_zeros(len(maps), channels, height * scale, width * scale)
    for number in range(kernel_size**2):
        row, column = divmod(number, kernel_size)
        shifted = padded[:, :, row : row + height, column : column + width]
        enlarged = shifted.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        total = total + enlarged * masks[:, number :: kernel_size**2].repeat_interleave(channels // groups, 1)
    return total


@torch.library.custom_op("bev::carafe", mutates_args=())
def _fused(maps: Tensor, masks: Tensor, kernel_size: int, scale: int) -> Tensor:
    """The Triton kernel, one node of a compiled graph."""
    from bev.ops.triton import carafe as kernels

    return kernels.forward(maps, masks, kernel_size, scale)


@_fused.register_fake
def _(maps: Tensor, masks: Tensor, kernel_size: int, scale: int) -> Tensor:
    batch, channels, height, width = maps.shape
    return maps.new_empty(batch, channels, height * scale, width * scale)


@torch.library.custom_op("bev::carafe_backward", mutates_args=())
def _fused_backward(
    grad: Tensor, maps: Tensor, masks: Tensor, kernel_size: int, scale: int
) -> tuple[Tensor, Tensor]:
    from bev.ops.triton import carafe as kernels

    return kernels.backward(grad, maps, masks, kernel_size, scale)


@_fused_backward.register_fake
def _(grad: Tensor, maps: Tensor, masks: Tensor, kernel_size: int, scale: int) -> tuple[Tensor, Tensor]:
    return maps.new_empty(maps.shape), masks.new_empty(masks.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    maps, masks, ctx.kernel_size, ctx.scale = inputs
    ctx.save_for_backward(maps, masks)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return *_fused_backward(grad, *ctx.saved_tensors, ctx.kernel_size, ctx.scale), None, None


_fused.register_autograd(_backward, setup_context=_setup_context)
