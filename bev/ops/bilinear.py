"""Bilinear interpolation as four weighted rows: the form that exports to TensorRT, which has no faithful GridSample."""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = ((0, 0), (1, 0), (0, 1), (1, 1))  # x, y of the corners from the upper left one


def _upper_left(xy_cells: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Upper left corner (..., 2), the point's offset from it, and (..., 4) which corners lie inside the map."""
    size = xy_cells.new_tensor([width, height])
    # int64 of a huge float is undefined; two cells beyond the border all corners are outside anyway.
    xy_cells = torch.minimum(xy_cells.clamp(min=-2), size + 1)
    corner = xy_cells.detach().floor()
    steps = xy_cells.new_tensor(_STEPS)
    corners = corner.unsqueeze(-2) + steps
    return corner, xy_cells - corner, ((corners >= 0) & (corners < size)).all(-1)


def bilinear_corners(xy_cells: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The four cells around each point and their weights; zeros outside the map, as ``grid_sample`` pads.

    Args:
        xy_cells: (..., 2) x, y in cells; the centre of the first cell is (0, 0). Not NaN.
        height, width: of the map.

    Returns:
        index: (..., 4) int64 ``y * width + x``, clamped into the map.
        weight: (..., 4) differentiable with respect to ``xy_cells``; 0 where the corner lies outside the map.
    """
    corner, offset, inside = _upper_left(xy_cells, height, width)
    x, y = offset.unbind(-1)
    weight = torch.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], -1) * inside
    column, row = corner.long().unbind(-1)
    column = torch.stack([column, column + 1], -1).clamp(0, width - 1)
    row = torch.stack([row, row + 1], -1).clamp(0, height - 1)
    return (row.unsqueeze(-1) * width + column.unsqueeze(-2)).flatten(-2), weight


def bilinear_slopes(xy_cells: Tensor, height: int, width: int) -> Tensor:
    """(..., 4, 2) derivatives of the weights of :func:`bilinear_corners` by x and y, per cell."""
    _, offset, inside = _upper_left(xy_cells, height, width)
    x, y = offset.unbind(-1)
    by_x = torch.stack([y - 1, 1 - y, -y, y], -1)
    by_y = torch.stack([x - 1, -x, 1 - x, x], -1)
    return torch.stack([by_x, by_y], -1) * inside.unsqueeze(-1)


def bilinear_gather(maps: Tensor, xy_cells: Tensor) -> Tensor:
    """Sample maps at points with gather, multiply and add alone.

    Args:
        maps: (B, C, H, W).
        xy_cells: (B, P, 2) x, y in cells, see :func:`bilinear_corners`.

    Returns:
        (B, C, P) in the dtype of ``xy_cells``, equal to ``grid_sample`` with zero padding.
    """
    channels, (height, width) = maps.shape[1], maps.shape[-2:]
    index, weight = bilinear_corners(xy_cells, height, width)
    flat = index.flatten(1)[:, None].expand(-1, channels, -1)
    corners = maps.flatten(2).gather(2, flat).unflatten(2, (-1, 4)).to(weight.dtype)
    return (corners * weight[:, None]).sum(-1)
