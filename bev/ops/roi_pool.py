"""Largest value of every bin of regions of interest (Fast R-CNN)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bev.ops.triton import takes


def roi_pool(
    maps: Tensor,  # (B, C, H, W)
    rois_px: Tensor,  # (M, 5)
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
) -> Tensor:
    """Maximum of the cells that each bin of a region touches.

    Args:
        maps: any float dtype.
        rois_px: index of the picture in the batch, then x1, y1, x2, y2 in px of the picture, x2 and y2 being the last
            pixels inside.
        output_size: bins (down, across) of a region.
        spatial_scale: cells of the map per px.

    Returns:
        (M, C, bins down, bins across) in the dtype of ``maps``; 0 where a bin touches no cell. Differentiable (once)
        with respect to the maps.

    Raises:
        ValueError: shapes or a picture's index do not fit (on CUDA a region of an unknown picture is NaN instead).

    Reference: Girshick, Fast R-CNN (ICCV 2015), section 2.1; mmcv's conventions: corners are not rounded, bins reach
    from the floor of their start to the ceiling of their end.
    """
    if maps.ndim != 4 or rois_px.ndim != 2 or rois_px.shape[1] != 5:
        shapes = f"{tuple(maps.shape)} and {tuple(rois_px.shape)}"
        raise ValueError(f"roi_pool: expected maps (B, C, H, W) and regions (M, 5), got {shapes}")
    down, across = (output_size, output_size) if isinstance(output_size, int) else output_size
    return roi_pool_with_source(maps, rois_px.detach(), down, across, spatial_scale)[0]


@torch.library.custom_op("bev::roi_pool", mutates_args=())
def roi_pool_with_source(
    maps: Tensor, rois_px: Tensor, down: int, across: int, spatial_scale: float
) -> tuple[Tensor, Tensor]:
    """:func:`roi_pool`, and (M, C, down, across) int64 cell y * W + x that each value is from; -1 where none."""
    if takes(maps.device):
        from bev.ops.triton import roi_pool as kernels

        rows, columns = _edges(rois_px, -2, down, spatial_scale, maps), _edges(rois_px, -1, across, spatial_scale, maps)
        return kernels.forward(maps, rois_px[:, 0].long(), rows, columns)
    shape = len(rois_px), maps.shape[1], down, across
    pooled, source = maps.new_zeros(shape), torch.full(shape, -1, device=maps.device)
    picture = rois_px[:, 0].long()
    if len(picture) and not 0 <= int(picture.min()) <= int(picture.max()) < len(maps):
        raise ValueError(f"roi_pool: a region's picture is not one of the {len(maps)}: {picture.unique().tolist()}")
    edges = [_edges(rois_px, axis, bins, spatial_scale, maps).tolist() for axis, bins in ((-2, down), (-1, across))]
    for roi, (number, rows, columns) in enumerate(zip(picture.tolist(), *edges)):
        for y, (top, bottom) in enumerate(rows):
            for x, (left, right) in enumerate(columns):
                if top < bottom and left < right:
                    flat = maps[number, :, top:bottom, left:right].flatten(1)
                    pooled[roi, :, y, x], inner = flat.max(1)
                    row = inner.div(right - left, rounding_mode="floor")
                    source[roi, :, y, x] = (top + row) * maps.shape[-1] + left + inner - row * (right - left)
    return pooled, source


def _edges(rois_px: Tensor, axis: int, bins: int, spatial_scale: float, maps: Tensor) -> Tensor:
    """(M, bins, 2) int64 first and one past the last cell along an axis; none for regions turned inside out."""
    size = maps.shape[axis]
    scaled = rois_px.to(torch.promote_types(rois_px.dtype, torch.float32))[:, 1:].view(-1, 2, 2)
    start, end = scaled[:, 0] * spatial_scale, (scaled[:, 1] + 1) * spatial_scale
    proper = (end > start).all(1, keepdim=True)
    start, end = start[:, 1 if axis == -2 else 0, None], end[:, 1 if axis == -2 else 0, None]
    step, number = (end - start) / bins, torch.arange(bins, device=rois_px.device)
    first = (number * step + start).floor().clamp(0, size)
    last = ((number + 1) * step + start).ceil().clamp(0, size)
    return torch.stack([first, torch.where(proper, last, first)], -1).long()


@roi_pool_with_source.register_fake
def _(maps: Tensor, rois_px: Tensor, down: int, across: int, spatial_scale: float) -> tuple[Tensor, Tensor]:
    pooled = maps.new_empty(len(rois_px), maps.shape[1], down, across)
    return pooled, torch.empty_like(pooled, dtype=torch.int64)


@torch.library.custom_op("bev::roi_pool_backward", mutates_args=())
def roi_pool_backward(grad: Tensor, source: Tensor, maps: Tensor, rois_px: Tensor) -> Tensor:
    """Gradient of the maps: each value's goes to the cell it is from."""
    batch, channels, height, width = maps.shape
    plane = rois_px[:, :1].long() * channels + torch.arange(channels, device=maps.device)
    index = (plane * (height * width))[:, :, None, None] + source
    # What comes from no cell adds nothing: choosing the others would wait for the device.
    index, grad = torch.where(source >= 0, index, 0).flatten(), torch.where(source >= 0, grad, 0).flatten()
    wide = torch.zeros(maps.numel(), dtype=torch.promote_types(grad.dtype, torch.float32), device=grad.device)
    return wide.index_add_(0, index, grad.to(wide.dtype)).view(maps.shape).to(grad.dtype)


@roi_pool_backward.register_fake
def _(grad: Tensor, source: Tensor, maps: Tensor, rois_px: Tensor) -> Tensor:
    return grad.new_empty(maps.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], inputs[0], inputs[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
    return roi_pool_backward(grad, *ctx.saved_tensors), None, None, None, None


roi_pool_with_source.register_autograd(_backward, setup_context=_setup_context)
