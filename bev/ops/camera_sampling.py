"""Weighted sampling of multi-camera, multi-level feature maps at projected points (DETR3D's cross-attention).

Every query owns P points; a point is projected into N cameras, sampled bilinearly at L levels wherever it is visible,
and all samples are summed with one weight each. Since the weights are shared by the channels, the whole operation is
a bag of weighted rows: on CPU it runs as ``embedding_bag`` over the maps seen as tables of pixels, which is a view
when the maps are channels_last. A point is seen by one camera, seldom by two, so only visible samples are touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.bilinear import bilinear_corners, bilinear_rows, bilinear_slopes
from bev.ops.exporting import is_exporting
from bev.ops.triton import takes


def camera_sampling(
    features: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
    pixels_px: Tensor,  # (B, N, Q, P, 2)
    visible: Tensor,  # (B, N, Q, P)
    weights: Tensor,  # (B, Q, N, P, L)
    image_size_px: tuple[int, int],
) -> Tensor:
    """Sum of bilinear samples over cameras, points and levels.

    Args:
        features: feature maps of each level, covering the whole image; fastest on CPU where the maps of each camera
            are channels_last. Any float dtype.
        pixels_px: u, v in px of the network's image, float32 (float64 for checks). Not read where not visible.
        visible: bool, which projections count.
        weights: weight of each sample, dtype of ``pixels_px``.
        image_size_px: (H, W) of the network's image, padding included.

    Returns:
        (B, Q, C) in the dtype of ``pixels_px``. Differentiable (once) with respect to features, pixels and weights.

    Raises:
        ValueError: the shapes disagree.

    Reference: Wang et al., DETR3D (CoRL 2021), equations 5 to 7; ``grid_sample`` with ``align_corners=False`` and
    zero padding.
    """
    _check_shapes(features, pixels_px, visible, weights)
    if is_exporting():
        return _camera_sampling_export(features, pixels_px, visible, weights, image_size_px)
    if pixels_px.device.type == "cpu" or takes(pixels_px.device):
        height, width = image_size_px
        return _camera_sampling_bags(list(features), pixels_px, visible, weights, height, width)
    return _camera_sampling_reference(features, pixels_px, visible, weights, image_size_px)


def _check_shapes(features: Sequence[Tensor], pixels_px: Tensor, visible: Tensor, weights: Tensor) -> None:
    b, n, q, p = visible.shape
    expected = {"pixels_px": (pixels_px, (b, n, q, p, 2)), "weights": (weights, (b, q, n, p, len(features)))}
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise ValueError(f"camera_sampling: {name} has shape {tuple(value.shape)}, expected {shape}")
    for level, feature in enumerate(features):
        if feature.ndim != 5 or tuple(feature.shape[:2]) != (b, n):
            raise ValueError(
                f"camera_sampling: features[{level}] has shape {tuple(feature.shape)}, expected ({b}, {n}, C, H, W)"
            )


def _camera_sampling_reference(
    features: Sequence[Tensor], pixels_px: Tensor, visible: Tensor, weights: Tensor, image_size_px: tuple[int, int]
) -> Tensor:
    """The published form, every camera sampled for every query; the oracle, and the path of other devices."""
    batch, cameras = visible.shape[:2]
    height, width = image_size_px
    grid = pixels_px * pixels_px.new_tensor([2 / width, 2 / height]) - 1
    # Outside every map: nothing there is read, so a NaN coordinate or an unseen NaN feature cannot leak in.
    grid = torch.where(visible.unsqueeze(-1), grid, -3.0)
    total = pixels_px.new_zeros(())
    for level, feature in enumerate(features):
        sampled = F.grid_sample(feature.flatten(0, 1).to(grid.dtype), grid.flatten(0, 1), align_corners=False)
        total = total + torch.einsum("bncqp,bqnp->bqc", sampled.unflatten(0, (batch, cameras)), weights[..., level])
    return total


def _camera_sampling_export(
    features: Sequence[Tensor], pixels_px: Tensor, visible: Tensor, weights: Tensor, image_size_px: tuple[int, int]
) -> Tensor:
    """The same numbers with gather, multiply and add: no GridSample, no data-dependent shapes."""
    batch, cameras, queries, points = visible.shape
    height, width = image_size_px
    share = torch.where(visible.unsqueeze(-1), pixels_px / pixels_px.new_tensor([width, height]), -9.0).flatten(0, 1)
    total = pixels_px.new_zeros(())
    for level, feature in enumerate(features):
        cells = share * share.new_tensor([feature.shape[-1], feature.shape[-2]]) - 0.5
        rows, size = feature.permute(0, 1, 3, 4, 2).flatten(0, 1), (int(feature.shape[-2]), int(feature.shape[-1]))
        sampled = bilinear_rows(rows.flatten(1, 2), size, cells.flatten(1, 2))
        sampled = sampled.view(batch, cameras, queries, points, feature.shape[2]).transpose(1, 2)
        total = total + (sampled * weights[..., level, None]).sum((2, 3))
    return total


def _by_kernel(features: Sequence[Tensor], pixels_px: Tensor) -> bool:
    """Whether the GPU's kernel computes this; the torch form has the empty cases and maps of several dtypes."""
    alike = len({feature.dtype for feature in features}) == 1
    return takes(pixels_px.device) and alike and 0 not in (pixels_px.numel(), *(x.numel() for x in features))


class _Where(NamedTuple):
    """Indices (V,) of the visible samples; ``camera`` counts over batch and cameras, ``bag`` over batch and queries."""

    b: Tensor
    q: Tensor
    n: Tensor
    p: Tensor
    camera: Tensor
    bag: Tensor


def _compact(pixels_px: Tensor, visible: Tensor, weights: Tensor) -> tuple[_Where, Tensor, Tensor]:
    """Visible samples sorted by query: where they are, their pixels (V, 2) and their weights (V, L)."""
    batch, cameras, queries, _ = visible.shape
    b, q, n, p = visible.permute(0, 2, 1, 3).nonzero(as_tuple=True)
    where = _Where(b, q, n, p, camera=b * cameras + n, bag=b * queries + q)
    return where, pixels_px[b, n, q, p], weights[b, q, n, p]


def _table(feature: Tensor) -> Tensor | None:
    """Maps (B, N, C, H, W) as rows (B N H W, C), or None where that would need a copy of the whole map."""
    pixels = feature.permute(0, 1, 3, 4, 2)
    return pixels.flatten(0, 3) if pixels.is_contiguous() else None


def _cells(xy_px: Tensor, feature: Tensor, height: int, width: int) -> Tensor:
    """Image px -> cells of a feature map that covers the image."""
    return xy_px * xy_px.new_tensor([feature.shape[-1] / width, feature.shape[-2] / height]) - 0.5


def _corner_rows(feature: Tensor, camera: Tensor, index: Tensor) -> Tensor:
    """Pixels ``index`` (V, 4) of ``camera`` (V,) -> (V, 4, C); reads no other pixel, whatever the strides."""
    table = _table(feature)
    if table is not None:
        return table.index_select(0, _flat(feature, camera, index)).unflatten(0, (-1, 4))
    width = feature.shape[-1]
    return feature.flatten(0, 1).permute(0, 2, 3, 1)[camera[:, None], index // width, index % width]


def _flat(feature: Tensor, camera: Tensor, index: Tensor) -> Tensor:
    return (camera[:, None] * (feature.shape[-1] * feature.shape[-2]) + index).flatten()


def _sample_by_camera(feature: Tensor, camera: Tensor, cells: Tensor) -> Tensor:
    """(V, C) bilinear samples of maps that are not tables: one ``grid_sample`` a camera, on what it sees."""
    sampled = cells.new_empty(len(cells), feature.shape[2])
    grid = (cells + 0.5) * cells.new_tensor([2 / feature.shape[-1], 2 / feature.shape[-2]]) - 1
    for index, single in enumerate(feature.flatten(0, 1)):
        seen = (camera == index).nonzero().squeeze(1)
        if len(seen):
            maps = single.to(grid.dtype)[None]
            sampled[seen] = F.grid_sample(maps, grid[seen][None, None], align_corners=False)[0, :, 0].T
    return sampled


@torch.library.custom_op("bev::camera_sampling", mutates_args=())
def _camera_sampling_bags(
    features: Sequence[Tensor], pixels_px: Tensor, visible: Tensor, weights: Tensor, height: int, width: int
) -> Tensor:
    """Visible samples only, one weighted bag a query."""
    if _by_kernel(features, pixels_px):
        from bev.ops.triton import camera_sampling as kernels

        return kernels.forward(features, pixels_px, visible, weights, (height, width), project=False)
    batch, _, queries, _ = visible.shape
    where, xy_px, weight = _compact(pixels_px, visible, weights)
    first = 4 * torch.searchsorted(where.bag, torch.arange(batch * queries, device=where.bag.device))
    total = pixels_px.new_zeros(batch * queries, features[0].shape[2])
    for level, feature in enumerate(features):
        cells, table = _cells(xy_px, feature, height, width), _table(feature)
        if table is None:
            rows = _sample_by_camera(feature, where.camera, cells)
            total.index_add_(0, where.bag, rows * weight[:, level, None])
            continue
        index, share = bilinear_corners(cells, *feature.shape[-2:])
        index, share = _flat(feature, where.camera, index), (share * weight[:, level, None]).flatten()
        if table.dtype != total.dtype:  # a bag wants one precision: widen only the rows that are read
            table, index = table.index_select(0, index).to(total.dtype), torch.arange(len(index), device=index.device)
        total += F.embedding_bag(index, table, first, mode="sum", per_sample_weights=share)
    return total.unflatten(0, (batch, queries))


@_camera_sampling_bags.register_fake
def _(
    features: Sequence[Tensor], pixels_px: Tensor, visible: Tensor, weights: Tensor, height: int, width: int
) -> Tensor:
    return pixels_px.new_empty(visible.shape[0], visible.shape[2], features[0].shape[2])


@torch.library.custom_op("bev::camera_sampling_backward", mutates_args=())
def _backward_bags(
    grad: Tensor,
    features: Sequence[Tensor],
    pixels_px: Tensor,
    visible: Tensor,
    weights: Tensor,
    height: int,
    width: int,
) -> list[Tensor]:
    """Gradients of each feature map, then of the pixels, then of the weights."""
    if _by_kernel(features, pixels_px):
        from bev.ops.triton import camera_sampling as kernels

        return kernels.backward(grad, features, pixels_px, visible, weights, (height, width), project=False)
    where, xy_px, weight = _compact(pixels_px, visible, weights)
    row_grad = grad.flatten(0, 1).index_select(0, where.bag)
    xy_grad, weight_grad, feature_grads = torch.zeros_like(xy_px), torch.zeros_like(weight), []
    for level, feature in enumerate(features):
        cells, (rows, columns) = _cells(xy_px, feature, height, width), feature.shape[-2:]
        index, share = bilinear_corners(cells, rows, columns)
        scaled = row_grad[:, None] * (share * weight[:, level, None]).unsqueeze(-1)
        feature_grads.append(_scatter_rows(feature, _flat(feature, where.camera, index), scaled))
        share_grad = (_corner_rows(feature, where.camera, index).to(grad.dtype) @ row_grad.unsqueeze(-1)).squeeze(-1)
        weight_grad[:, level] = (share_grad * share).sum(-1)
        cells_grad = (share_grad.unsqueeze(-1) * bilinear_slopes(cells, rows, columns)).sum(-2) * weight[:, level, None]
        xy_grad += cells_grad * cells_grad.new_tensor([columns / width, rows / height])
    pixels_grad, weights_grad = torch.zeros_like(pixels_px), torch.zeros_like(weights)
    pixels_grad[where.b, where.n, where.q, where.p] = xy_grad
    weights_grad[where.b, where.q, where.n, where.p] = weight_grad
    return [*feature_grads, pixels_grad, weights_grad]


def _scatter_rows(feature: Tensor, flat: Tensor, values: Tensor) -> Tensor:
    """Sum (V, 4, C) values into a gradient of the map's shape, laid out channels_last."""
    batch, cameras, channels, height, width = feature.shape
    table = values.new_zeros(batch * cameras * height * width, channels)
    table.index_add_(0, flat, values.flatten(0, 1))
    return table.to(feature.dtype).view(batch, cameras, height, width, channels).permute(0, 1, 4, 2, 3)


@_backward_bags.register_fake
def _(
    grad: Tensor,
    features: Sequence[Tensor],
    pixels_px: Tensor,
    visible: Tensor,
    weights: Tensor,
    height: int,
    width: int,
) -> list[Tensor]:
    tables = [feature.permute(0, 1, 3, 4, 2) for feature in features]
    feature_grads = [table.new_empty(table.shape).permute(0, 1, 4, 2, 3) for table in tables]
    return [*feature_grads, torch.empty_like(pixels_px), torch.empty_like(weights)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, pixels_px, visible, weights, ctx.height, ctx.width = inputs
    ctx.save_for_backward(*features, pixels_px, visible, weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    *features, pixels_px, visible, weights = ctx.saved_tensors
    grads = _backward_bags(grad.contiguous(), features, pixels_px, visible, weights, ctx.height, ctx.width)
    return grads[:-2], grads[-2], None, grads[-1], None, None


_camera_sampling_bags.register_autograd(_backward, setup_context=_setup_context)
