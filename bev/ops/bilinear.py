"""Bilinear interpolation as four weighted rows: the form that exports to TensorRT, which has no faithful GridSample."""

from __future__ import annotations

import torch
from torch import Tensor


def bilinear_corners(xy_cells: Tensor, height: int | Tensor, width: int | Tensor) -> tuple[Tensor, Tensor]:
    """The four cells around each point and their weights; zeros outside the map, as ``grid_sample`` pads.

    Args:
        xy_cells: (..., 2) x, y in cells; the centre of the first cell is (0, 0). A NaN gives NaN weights.
        height, width: of the map; or tensors that broadcast to (...), where points lie in maps of several sizes.

    Returns:
        index: (..., 4) int64 ``y * width + x``, clamped into the map.
        weight: (..., 4) differentiable with respect to ``xy_cells``; 0 where the corner lies outside the map.
    """
    column, x, left, right = _along(xy_cells[..., 0], width)
    row, y, top, bottom = _along(xy_cells[..., 1], height)
    left, right, top, bottom = (1 - x) * left, x * right, (1 - y) * top, y * bottom
    weight = torch.stack([left * top, right * top, left * bottom, right * bottom], -1)
    x0, x1 = column.clamp(min=0).minimum(_last(column, width)), (column + 1).clamp(min=0).minimum(_last(column, width))
    y0, y1 = row.clamp(min=0).minimum(_last(row, height)), (row + 1).clamp(min=0).minimum(_last(row, height))
    y0, y1 = y0 * width, y1 * width
    return torch.stack([y0 + x0, y0 + x1, y1 + x0, y1 + x1], -1), weight


def bilinear_slopes(xy_cells: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
    """(..., 4, 2) derivatives of the weights of :func:`bilinear_corners` by x and y, per cell."""
    _, x, left, right = _along(xy_cells[..., 0], width)
    _, y, top, bottom = _along(xy_cells[..., 1], height)
    by_x = torch.stack([-left * (1 - y) * top, right * (1 - y) * top, -left * y * bottom, right * y * bottom], -1)
    by_y = torch.stack([-top * (1 - x) * left, -top * x * right, bottom * (1 - x) * left, bottom * x * right], -1)
    return torch.stack([by_x, by_y], -1)


def _along(cells: Tensor, size: int | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One axis: int64 cell before the point, distance from it, and as 0 or 1 whether it and the next lie inside."""
    # int64 of a huge float is undefined; two cells beyond the border both neighbours are outside anyway.
    cells = cells.clamp(min=-2).minimum(_last(cells, size) + 2)
    before = cells.detach().floor()
    first = ((before >= 0) & (before < size)).to(cells.dtype)
    second = ((before >= -1) & (before < size - 1)).to(cells.dtype)
    return before.long(), cells - before, first, second


def _last(like: Tensor, size: int | Tensor) -> Tensor:
    """``size - 1`` as a tensor of the type of ``like``."""
    return (size - 1).to(like.dtype) if isinstance(size, Tensor) else like.new_full((), size - 1)


def bilinear_gather(maps: Tensor, xy_cells: Tensor) -> Tensor:
    """Sample maps at points with gather, multiply and add alone.

    Args:
        maps: (B, C, H, W).
        xy_cells: (B, P, 2) x, y in cells, see :func:`bilinear_corners`.

    Returns:
        (B, C, P) in the dtype of ``xy_cells``, equal to ``grid_sample`` with zero padding.
    """
    size = int(maps.shape[-2]), int(maps.shape[-1])
    return bilinear_rows(maps.permute(0, 2, 3, 1).flatten(1, 2), size, xy_cells).transpose(1, 2)


def bilinear_rows(
    rows: Tensor, size: tuple[int, int], xy_cells: Tensor, factor: Tensor | None = None
) -> Tensor:
    """As :func:`bilinear_gather` for maps that lie as rows of pixels, which are gathered whole.

    An index for every channel would need several times the memory of the result.

    Args:
        rows: (B, H * W, C).
        size: (H, W).
        xy_cells: (B, P, 2).
        factor: (B, P) of each sample; None for ones.

    Returns:
        (B, P, C) in the dtype of ``xy_cells``.
    """
    batch, (height, width) = rows.shape[0], size
    index, weight = bilinear_corners(xy_cells, height, width)
    if factor is not None:
        weight = weight * factor.unsqueeze(-1)
    first = torch.arange(batch, device=rows.device)[:, None, None] * (height * width)
    corners = rows.flatten(0, 1).index_select(0, (index + first).flatten()).to(weight.dtype)
    return (corners.view(batch, xy_cells.shape[1], 4, rows.shape[2]) * weight.unsqueeze(-1)).sum(2)
