"""Features of regions of interest: bilinear samples averaged (or their maximum) in each bin, upright or rotated.

The mean of a bin is a bag of weighted pixels, so that on CPU it runs as ``embedding_bag`` over the maps seen as rows of
pixels (a view where they are channels_last, else one copy), and on CUDA as one Triton kernel. The maximum is plain
torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.bags import transposed_bags
from bev.ops.bilinear import bilinear_corners
from bev.ops.exporting import is_exporting
from bev.ops.triton import takes

_SAMPLES = 1 << 17  # samples at a time: their temporaries stay in the cache

PoolMode = Literal["avg", "max"]


def roi_align(
    maps: Tensor,  # (B, C, H, W)
    rois_px: Tensor,  # (M, 5)
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: PoolMode = "avg",
    aligned: bool = True,
) -> Tensor:
    """Sample regions of the maps on a grid of bins.

    Args:
        maps: any float dtype.
        rois_px: index of the picture in the batch, then x1, y1, x2, y2 in px of the picture.
        output_size: bins (down, across) of a region.
        spatial_scale: cells of the map per px.
        sampling_ratio: samples a bin has along each side; 0: as many as it has cells, rounded up.
        pool_mode: mean of the bin's samples, or the largest one.
        aligned: half a cell is taken off, so that cell centres are where bilinear sampling has them, and regions may
            be smaller than a cell; False: as Mask R-CNN's first implementations did.

    Returns:
        (M, C, bins down, bins across) in the dtype of ``maps``, computed in float32 at least. Differentiable (once)
        with respect to the maps, not to the regions. Samples up to one cell outside a map read its border, samples
        beyond that are zero.

    Raises:
        ValueError: shapes, the mode or a picture's index do not fit. On CUDA, where looking at the indices would wait
            for the device, a region whose picture is not in the batch is NaN instead.

    Reference: He et al., Mask R-CNN (ICCV 2017), section 3; the conventions are mmcv's.
    """
    _check("roi_align", maps, rois_px, 5, pool_mode)
    wide = torch.promote_types(maps.dtype, torch.float32)
    rois = rois_px.detach().to(wide)
    low, high = rois[:, 1:3] * spatial_scale - 0.5 * aligned, rois[:, 3:5] * spatial_scale - 0.5 * aligned
    size = high - low if aligned else (high - low).clamp(min=1)
    unturned = torch.stack([torch.ones_like(size[:, 0]), torch.zeros_like(size[:, 0])], -1)
    frames = torch.cat([(low + size / 2), size, unturned], 1)
    return _pool(maps, rois[:, 0].long(), frames, output_size, sampling_ratio, pool_mode)


def roi_align_rotated(
    maps: Tensor,  # (B, C, H, W)
    rois_px: Tensor,  # (M, 6)
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: PoolMode = "avg",
    aligned: bool = True,
    clockwise: bool = False,
) -> Tensor:
    """Sample turned regions of the maps on a grid of bins.

    Args:
        rois_px: index of the picture, then centre x, y, width, height in px of the picture, angle in rad.
        clockwise: the angle turns from +x towards +y, which is clockwise as y points down; False: the other way.
        (the others): as in :func:`roi_align`.

    Returns:
        (M, C, bins down, bins across), as :func:`roi_align`.

    Raises:
        ValueError: shapes, the mode or a picture's index do not fit.
    """
    _check("roi_align_rotated", maps, rois_px, 6, pool_mode)
    rois = rois_px.detach().to(torch.promote_types(maps.dtype, torch.float32))
    center, size = rois[:, 1:3] * spatial_scale - 0.5 * aligned, rois[:, 3:5] * spatial_scale
    size = size if aligned else size.clamp(min=1)
    angle = rois[:, 5] if clockwise else -rois[:, 5]
    frames = torch.cat([center, size, torch.stack([angle.cos(), angle.sin()], 1)], 1)
    return _pool(maps, rois[:, 0].long(), frames, output_size, sampling_ratio, pool_mode)


def _check(name: str, maps: Tensor, rois_px: Tensor, columns: int, pool_mode: str) -> None:
    if maps.ndim != 4 or rois_px.ndim != 2 or rois_px.shape[1] != columns:
        raise ValueError(
            f"{name}: expected maps (B, C, H, W) and regions (M, {columns}), "
            f"got {tuple(maps.shape)} and {tuple(rois_px.shape)}"
        )
    if pool_mode not in ("avg", "max"):
        raise ValueError(f"{name}: pool_mode is {pool_mode!r}, expected 'avg' or 'max'")


def _pool(
    maps: Tensor, picture: Tensor, frames: Tensor, size: int | tuple[int, int], sampling_ratio: int, pool_mode: str
) -> Tensor:
    """Pool regions given as frames (M, 6): centre x, y, size x, y in cells, cosine and sine of the turn."""
    down, across = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if pool_mode == "avg" and takes(maps.device) and not is_exporting():
        return _roi_bags(maps, picture, frames, down, across, sampling_ratio)
    wide = maps.to(frames.dtype)
    if pool_mode == "avg" and maps.device.type == "cpu" and not is_exporting():
        return _roi_bags(wide, picture, frames, down, across, sampling_ratio).to(maps.dtype)
    return _pool_reference(wide, picture, frames, down, across, sampling_ratio, pool_mode).to(maps.dtype)


class _Grid(NamedTuple):
    """Regions that have the same number of samples a bin: their positions (R,) and cells (R, down, across, S, 2)."""

    rois: Tensor
    cells: Tensor


def _grids(frames: Tensor, down: int, across: int, sampling_ratio: int) -> Iterator[_Grid]:
    """Sample positions of every region, together where they are as many."""
    if sampling_ratio > 0:
        yield _grid(frames, torch.arange(len(frames), device=frames.device), down, across, (sampling_ratio,) * 2)
        return
    if is_exporting():
        raise ValueError("roi_align: a graph of fixed shapes needs sampling_ratio > 0")
    counts = (frames[:, 2:4] / frames.new_tensor([across, down])).ceil().clamp(min=0).long()
    kinds, kind = counts.unique(dim=0, return_inverse=True)
    for number, (right, below) in enumerate(kinds.tolist()):
        members = (kind == number).nonzero().squeeze(1)
        part = max(1, _SAMPLES // max(1, down * across * right * below))
        for rois in members.split(part):
            yield _grid(frames, rois, down, across, (below, right))


def _grid(frames: Tensor, rois: Tensor, down: int, across: int, samples: tuple[int, int]) -> _Grid:
    center_x, center_y, width, height, cos, sin = (column[:, None, None, None, None] for column in frames[rois].T)
    y = _along(down, samples[0], frames).view(1, down, 1, samples[0], 1) * height
    x = _along(across, samples[1], frames).view(1, 1, across, 1, samples[1]) * width
    cells = torch.stack([center_x + x * cos - y * sin, center_y + x * sin + y * cos], -1)
    return _Grid(rois, cells.flatten(3, 4))


def _along(bins: int, samples: int, like: Tensor) -> Tensor:
    """(bins * samples,) positions of evenly spread samples as a share of a side, 0 in its middle."""
    count = bins * samples
    return (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) / max(count, 1) - 0.5


def _corners(maps: Tensor, picture: Tensor, grid: _Grid) -> tuple[Tensor, Tensor]:
    """Pixel (of all pictures) and weight (R, down, across, S, 4) of what each sample reads."""
    height, width = maps.shape[-2:]
    size = grid.cells.new_tensor([width, height])
    inside = ((grid.cells >= -1) & (grid.cells <= size)).all(-1)
    cells = grid.cells.clamp(min=0).minimum(size - 1)
    index, weight = bilinear_corners(cells, height, width)
    index = index + (picture[grid.rois] * (height * width))[:, None, None, None, None]
    return index, torch.where(inside.unsqueeze(-1), weight, 0)


def _pool_reference(
    maps: Tensor, picture: Tensor, frames: Tensor, down: int, across: int, sampling_ratio: int, pool_mode: str = "avg"
) -> Tensor:
    """Every sample of every bin gathered, then their mean or maximum; also the form that is exported."""
    table = maps.permute(0, 2, 3, 1).flatten(0, 2)
    parts, order = [maps.new_zeros(0, down, across, maps.shape[1])], [picture[:0]]
    for grid in _grids(frames, down, across, sampling_ratio):
        index, weight = _corners(maps, picture, grid)
        samples = (table[index] * weight.unsqueeze(-1)).sum(-2)
        order.append(grid.rois)
        if not samples.shape[3]:
            parts.append(samples.sum(3))
        else:
            parts.append(samples.mean(3) if pool_mode == "avg" else samples.max(3).values)
    if sampling_ratio > 0:
        return parts[1].permute(0, 3, 1, 2)
    return torch.cat(parts)[torch.cat(order).argsort()].permute(0, 3, 1, 2)


@torch.library.custom_op("bev::roi_align", mutates_args=())
def _roi_bags(
    maps: Tensor, picture: Tensor, frames: Tensor, down: int, across: int, sampling_ratio: int
) -> Tensor:
    """One weighted bag a bin."""
    batch, channels = maps.shape[:2]
    if takes(maps.device):
        from bev.ops.triton import roi_align as kernels

        return kernels.forward(maps, picture, frames, down, across, sampling_ratio)
    if len(picture) and not 0 <= int(picture.min()) <= int(picture.max()) < batch:
        raise ValueError(f"roi_align: a region's picture is not one of the {batch}: {picture.unique().tolist()}")
    table = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    pooled = maps.new_zeros(len(picture), down * across, channels)
    for grid in _grids(frames, down, across, sampling_ratio):
        index, weight = _corners(maps, picture, grid)
        if index.numel():
            index, weight = index.flatten(3).flatten(0, 2), weight.flatten(3).flatten(0, 2) / index.shape[3]
            bags = F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)
            pooled[grid.rois] = bags.view(-1, down * across, channels)
    return pooled.transpose(1, 2).contiguous().view(-1, channels, down, across)


@_roi_bags.register_fake
def _(maps: Tensor, picture: Tensor, frames: Tensor, down: int, across: int, sampling_ratio: int) -> Tensor:
    return maps.new_empty(len(picture), maps.shape[1], down, across)


@torch.library.custom_op("bev::roi_align_backward", mutates_args=())
def _roi_backward(grad: Tensor, maps: Tensor, picture: Tensor, frames: Tensor, sampling_ratio: int) -> Tensor:
    if takes(maps.device):
        from bev.ops.triton import roi_align as kernels

        return kernels.backward(grad, maps, picture, frames, sampling_ratio)
    batch, channels, height, width = maps.shape
    down, across = grad.shape[2:]
    rows = grad.permute(0, 2, 3, 1).reshape(-1, channels)
    indices, weights, sources = [picture[:0]], [grad.new_zeros(0)], [picture[:0]]
    for grid in _grids(frames, down, across, sampling_ratio):
        index, weight = _corners(maps, picture, grid)
        bins = grid.rois[:, None] * (down * across) + torch.arange(down * across, device=grad.device)
        indices.append(index.flatten())
        weights.append((weight / max(1, index.shape[3])).flatten())
        sources.append(bins[:, :, None].expand(-1, -1, index.shape[3] * 4).flatten())
    table = transposed_bags(rows, torch.cat(indices), torch.cat(weights), batch * height * width, torch.cat(sources))
    return table.view(batch, height, width, channels).permute(0, 3, 1, 2)


@_roi_backward.register_fake
def _(grad: Tensor, maps: Tensor, picture: Tensor, frames: Tensor, sampling_ratio: int) -> Tensor:
    batch, channels, height, width = maps.shape
    return maps.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    maps, picture, frames, _, _, ctx.sampling_ratio = inputs
    ctx.save_for_backward(maps, picture, frames)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _roi_backward(grad, *ctx.saved_tensors, ctx.sampling_ratio), None, None, None, None, None


_roi_bags.register_autograd(_backward, setup_context=_setup_context)
