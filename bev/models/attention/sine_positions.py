"""Sines of positions: Transformer's encoding of numbers, of points and of cells (PETR, arXiv 2203.05625)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_EPS = 1e-6


def encode_numbers(value: Tensor, channels: int, temperature: float = 10000.0) -> Tensor:
    """(...) numbers of about one turn in radians -> (..., channels) sines and cosines in turn, of falling frequency."""
    index = torch.arange(channels, dtype=torch.float32, device=value.device)
    angle = value.unsqueeze(-1) / temperature ** (2 * (index // 2) / channels)
    return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1).flatten(-2)


def encode_shares(share: Tensor, channels: int) -> Tensor:
    """(...) numbers of a range of 1 -> (..., channels)."""
    return encode_numbers(share * (2 * math.pi), channels)


def encode_points(share: Tensor, channels: int) -> Tensor:
    """(..., 3) points as shares of a range -> (..., 3 * channels): y, then x, then z."""
    x, y, z = share.unbind(-1)
    return torch.cat([encode_shares(axis, channels) for axis in (y, x, z)], -1)


def encode_cells(valid: Tensor, axes: Sequence[int], channels: int, interleaved: bool = True) -> Tensor:
    """Positions of cells within the valid part of their maps (DETR, ECCV 2020).

    Args:
        valid: (B, N, H, W) bool, False in padding.
        axes: which of the axes 1 (camera), 2 (row), 3 (column) are encoded, in that order.
        channels: of each axis.
        interleaved: sines and cosines in turn; False: all sines of an axis, then its cosines (PETR's cameras).

    Returns:
        (B, N, H, W, len(axes) * channels): each axis's count of valid cells up to here, as a share of all of them.
    """
    parts = []
    for axis in axes:
        count = valid.cumsum(axis, dtype=torch.float32)
        last = count.narrow(axis, count.shape[axis] - 1, 1)
        encoded = encode_shares(count / (last + _EPS), channels)
        parts.append(encoded if interleaved else encoded.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2))
    return torch.cat(parts, -1)
