"""Content-aware upsampling (CARAFE): every fine pixel is a predicted mixture of its coarse neighbourhood."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


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
    # A coarse pixel's neighbourhood serves its scale^2 fine ones: one small matrix product a pixel.
    neighbours = F.unfold(maps, kernel_size, padding=kernel_size // 2).view(batch, groups, -1, area, height * width)
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
