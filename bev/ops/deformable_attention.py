"""Multi-scale deformable attention (Deformable DETR): a few weighted samples of each level for every query and head.

All levels' samples of one query and head are one bag of weighted rows, so that on CPU the whole operator is a single
``embedding_bag`` over ``value`` seen as a table of (pixel, head) rows, which is a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.bags import bag_products, transposed_bags
from bev.ops.bilinear import bilinear_corners, bilinear_rows, bilinear_slopes
from bev.ops.exporting import is_exporting
from bev.ops.triton import takes


def multi_scale_deformable_attention(
    value: Tensor,  # (B, S, heads, C)
    spatial_shapes: Tensor | Sequence[tuple[int, int]],  # (L, 2)
    sampling_locations: Tensor,  # (B, Q, heads, L, P, 2)
    attention_weights: Tensor,  # (B, Q, heads, L, P)
) -> Tensor:
    """Weighted sum of bilinear samples over levels and points, each head in its own channels.

    Args:
        value: the levels' maps, each row-major, one after the other; S = sum of h * w.
        spatial_shapes: (h, w) in cells of each level. A list where the graph is exported or compiled: the sizes of a
            tensor are read on the host.
        sampling_locations: x, y as a share of the map: (0, 0) is its upper left corner, (1, 1) its lower right one;
            anywhere outside reads zeros.
        attention_weights: factor of each sample; published networks pass a softmax over L * P.

    Returns:
        (B, Q, heads * C) in the dtype of ``value``; computed in float32 at least. Differentiable (once) with respect
        to value, locations and weights.

    Raises:
        ValueError: the shapes disagree.

    Reference: Zhu et al., Deformable DETR (ICLR 2021), equation 3; ``grid_sample`` with ``align_corners=False`` and
    zero padding, as mmcv's operator of that name.
    """
    shapes = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
    heights, widths = [int(h) for h, _ in shapes], [int(w) for _, w in shapes]
    _check_shapes(value, heights, widths, sampling_locations, attention_weights)
    wide = torch.promote_types(value.dtype, torch.float32)
    inputs = value.to(wide), heights, widths, sampling_locations.to(wide), attention_weights.to(wide)
    if is_exporting():
        return _attention_export(*inputs).to(value.dtype)
    if value.device.type == "cpu" or takes(value.device):
        return _attention_bags(*inputs).to(value.dtype)
    return _attention_reference(*inputs).to(value.dtype)


def _check_shapes(
    value: Tensor, heights: list[int], widths: list[int], sampling_locations: Tensor, attention_weights: Tensor
) -> None:
    batch, pixels, heads, _ = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[-2]
    levels = len(heights)
    if sum(h * w for h, w in zip(heights, widths)) != pixels:
        shapes = list(zip(heights, widths))
        raise ValueError(f"multi_scale_deformable_attention: levels {shapes} do not add up to {pixels} rows of value")
    expected = (batch, queries, heads, levels, points)
    for name, tensor, shape in (
        ("sampling_locations", sampling_locations, (*expected, 2)),
        ("attention_weights", attention_weights, expected),
    ):
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"multi_scale_deformable_attention: {name} has shape {tuple(tensor.shape)}, expected {shape}"
            )


def _attention_reference(
    value: Tensor, heights: list[int], widths: list[int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """One ``grid_sample`` a level, heads as batch; the oracle, and the path of devices without a kernel."""
    batch, _, heads, channels = value.shape
    queries = sampling_locations.shape[1]
    total = value.new_zeros(batch, heads, channels, queries)
    start = 0
    for level, (height, width) in enumerate(zip(heights, widths)):
        maps = value[:, start : start + height * width].permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        start += height * width
        grid = (2 * sampling_locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        sampled = F.grid_sample(maps, grid, align_corners=False).unflatten(0, (batch, heads))
        total = total + torch.einsum("bhcqp,bqhp->bhcq", sampled, attention_weights[:, :, :, level])
    return total.permute(0, 3, 1, 2).flatten(2)


def _attention_export(
    value: Tensor, heights: list[int], widths: list[int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """The same numbers with gather, multiply and add: TensorRT miscompiles GridSample inside this operator."""
    batch, _, heads, channels = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[-2]
    total: Tensor | float = 0.0
    start = 0
    for level, (height, width) in enumerate(zip(heights, widths)):
        rows = value[:, start : start + height * width].transpose(1, 2).flatten(0, 1)
        start += height * width
        cells = sampling_locations[:, :, :, level] * sampling_locations.new_tensor([width, height]) - 0.5
        cells = cells.transpose(1, 2).reshape(batch * heads, queries * points, 2)
        weights = attention_weights[:, :, :, level].transpose(1, 2).reshape(batch * heads, queries * points)
        sampled = bilinear_rows(rows, (height, width), cells, weights)
        total = total + sampled.view(batch * heads, queries, points, channels).sum(2)
    assert isinstance(total, Tensor)
    return total.view(batch, heads, queries, channels).transpose(1, 2).flatten(2)


def _bags(
    heights: list[int], widths: list[int], sampling_locations: Tensor, heads: int, pixels: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cells (B, Q, heads, L, P, 2), first row of each level in the table (B, 1, heads, L, 1, 1), sizes (L, 1)."""
    device = sampling_locations.device
    height, width = (torch.tensor(size, device=device).unsqueeze(1) for size in (heights, widths))
    cells = sampling_locations * torch.stack([width, height], -1) - 0.5
    starts = (height * width).cumsum(0) - height * width
    batches = torch.arange(len(sampling_locations), device=device).view(-1, 1, 1, 1, 1, 1) * pixels
    first = (starts.unsqueeze(-1) + batches) * heads + torch.arange(heads, device=device).view(-1, 1, 1, 1)
    return cells, first, height, width


@torch.library.custom_op("bev::multi_scale_deformable_attention", mutates_args=())
def _attention_bags(
    value: Tensor, heights: Sequence[int], widths: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """All levels at once, one weighted bag a query and head."""
    batch, queries, heads, levels, points = attention_weights.shape
    if 0 in (attention_weights.numel(), value.numel()):
        return value.new_zeros(batch, queries, heads * value.shape[3])
    if takes(value.device):
        from bev.ops.triton import deformable_attention as kernels

        return kernels.forward(value, heights, widths, sampling_locations, attention_weights)
    cells, first, height, width = _bags(list(heights), list(widths), sampling_locations, heads, value.shape[1])
    index, share = bilinear_corners(cells, height, width)
    index = index.mul_(heads).add_(first)
    share = share * attention_weights.unsqueeze(-1)
    pooled = F.embedding_bag(
        index.view(-1, levels * points * 4),
        value.reshape(-1, value.shape[3]),
        mode="sum",
        per_sample_weights=share.view(-1, levels * points * 4),
    )
    return pooled.view(batch, queries, -1)


@_attention_bags.register_fake
def _(
    value: Tensor, heights: Sequence[int], widths: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    batch, queries, heads = attention_weights.shape[:3]
    return value.new_empty(batch, queries, heads * value.shape[3])


@torch.library.custom_op("bev::multi_scale_deformable_attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor,
    value: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights."""
    batch, queries, heads, levels, points = attention_weights.shape
    if 0 in (attention_weights.numel(), value.numel()):
        return tuple(torch.zeros_like(x) for x in (value, sampling_locations, attention_weights))  # type: ignore
    if takes(value.device):
        from bev.ops.triton import deformable_attention as kernels

        return kernels.backward(grad, value, heights, widths, sampling_locations, attention_weights)
    cells, first, height, width = _bags(list(heights), list(widths), sampling_locations, heads, value.shape[1])
    index, share = bilinear_corners(cells, height, width)
    index = index.mul_(heads).add_(first)
    table, rows = value.reshape(-1, value.shape[3]), grad.reshape(-1, value.shape[3])
    share_grad = bag_products(rows, table, index.view(len(rows), -1)).view_as(share)
    scaled = share * attention_weights.unsqueeze(-1)
    value_grad = transposed_bags(rows, index.view(-1), scaled.view(-1), len(table))
    weights_grad = (share_grad * share).sum(-1)
    slopes = bilinear_slopes(cells, height, width) * attention_weights[..., None, None]
    cells_grad = (slopes * share_grad.unsqueeze(-1)).sum(-2)
    return value_grad.view_as(value), cells_grad * torch.stack([width, height], -1), weights_grad


@_attention_backward.register_fake
def _(
    grad: Tensor,
    value: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (value, sampling_locations, attention_weights))  # type: ignore


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.heights, ctx.widths, sampling_locations, attention_weights = inputs
    ctx.save_for_backward(value, sampling_locations, attention_weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    value, sampling_locations, attention_weights = ctx.saved_tensors
    value_grad, locations_grad, weights_grad = _attention_backward(
        grad.contiguous(), value, ctx.heights, ctx.widths, sampling_locations, attention_weights
    )
    return value_grad, None, None, locations_grad, weights_grad


_attention_bags.register_autograd(_backward, setup_context=_setup_context)
