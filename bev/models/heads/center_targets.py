"""Gaussian heatmaps of box centres."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_radius(length: Tensor, width: Tensor, min_overlap: float) -> Tensor:
    """Largest shift, in cells, at which a box still overlaps itself by ``min_overlap`` (CornerNet, arXiv 1808.01244).

    Args:
        length, width: (M,) box sizes in cells.
        min_overlap: IoU in (0, 1).

    Returns:
        (M,) the least of the three cases: one corner inside, both inside, both outside. The published codes divide the
        roots of the second and third case by 2 instead of 2 a; weights were trained on that, so it is kept.
    """
    total, area = length + width, length * width

    def root(a: float, b: Tensor, c: Tensor) -> Tensor:
        return (b + (b.square() - 4 * a * c).clamp(min=0).sqrt()) / 2

    one_inside = root(1.0, total, area * (1 - min_overlap) / (1 + min_overlap))
    both_inside = root(4.0, 2 * total, (1 - min_overlap) * area)
    both_outside = root(4 * min_overlap, -2 * min_overlap * total, (min_overlap - 1) * area)
    return torch.minimum(torch.minimum(one_inside, both_inside), both_outside)


def draw_heatmap(cell_xy: Tensor, radius: Tensor, label: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Maximum of the boxes' Gaussians (sigma = (2 r + 1) / 6, cut off at r), one map a class.

    Args:
        cell_xy: (M, 2) int64 centre cells.
        radius: (M,) int64, in cells.
        label: (M,) int64 map of each box.
        shape: (K, Y, X).
    """
    count, height, width = shape
    heatmap = torch.zeros(shape, device=cell_xy.device)
    dx = torch.arange(width, device=cell_xy.device)[None] - cell_xy[:, :1]
    dy = torch.arange(height, device=cell_xy.device)[None] - cell_xy[:, 1:]
    variance = ((2 * radius + 1) / 6.0).square()[:, None]
    # Separable: exp(-(dx^2 + dy^2) / 2s^2) as an outer product; the window is a square of half side r.
    along_x = torch.exp(-dx.square() / (2 * variance)) * (dx.abs() <= radius[:, None])
    along_y = torch.exp(-dy.square() / (2 * variance)) * (dy.abs() <= radius[:, None])
    bumps = along_y[:, :, None] * along_x[:, None]
    return heatmap.scatter_reduce(0, label[:, None, None].expand_as(bumps), bumps, "amax")
