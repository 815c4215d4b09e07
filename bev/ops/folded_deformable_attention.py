"""Deformable attention from what a network's linear layers give: softmax and sampling points are folded in.

On a GPU one kernel reads raw offsets, raw logits and reference points; neither the attention weights nor the sampling
locations, each as large as the offsets, are ever written. Elsewhere the two are computed and handed to
:func:`bev.ops.deformable_attention.multi_scale_deformable_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bev.ops.deformable_attention import _attention_backward, multi_scale_deformable_attention
from bev.ops.exporting import is_exporting, plugin_node, wants_plugins
from bev.ops.triton import takes

Shapes = Sequence[tuple[int, int]]


def folds(device: torch.device) -> bool:
    """Whether raw offsets and logits should be handed over: to the kernel, or to a plugin of an exported graph."""
    return wants_plugins() or (takes(device) and not is_exporting())


def folded_deformable_attention(
    value: Tensor,  # (B, S, heads, C)
    spatial_shapes: Shapes,  # L x (h, w)
    reference: Tensor,  # (B, Q, L or 1, D, 2 or 4)
    offsets: Tensor,  # (B, Q, heads, L, P, 2)
    logits: Tensor,  # (B, Q, heads, L, P)
) -> Tensor:
    """Weighted sum of bilinear samples around reference points; weights are a softmax over L * P.

    Args:
        value: the levels' maps, each row-major, one after the other; S = sum of h * w.
        spatial_shapes: (h, w) in cells of each level.
        reference: x, y as a share of the map, of each level or of all (1); sample p belongs to point p mod D (D = 1 in
            Deformable DETR, the points of a pillar in BEVFormer). Four numbers: x, y, w, h of a box.
        offsets: in cells around points; around boxes in units of half the box a P-th of which is one step.
        logits: before the softmax.

    Returns:
        (B, Q, heads * C) in the dtype of ``value``, computed in float32 at least. Differentiable (once) with respect to
        value, reference, offsets and logits. On a GPU the gradient of ``value`` is summed in no fixed order.

    Raises:
        ValueError: the shapes disagree.

    Reference: Zhu et al., Deformable DETR (ICLR 2021), equations 2 and 3 and appendix A.4 (boxes).
    """
    heights, widths = [int(h) for h, _ in spatial_shapes], [int(w) for _, w in spatial_shapes]
    _check_shapes(value, heights, widths, reference, offsets, logits)
    if wants_plugins():
        return _plugin(value, heights, widths, reference, offsets, logits)
    if takes(value.device) and not is_exporting():
        return _folded(value, heights, widths, reference, offsets, logits)
    return _composed(value, heights, widths, reference, offsets, logits)


def sampling_points(reference: Tensor, offsets: Tensor, heights: Sequence[int], widths: Sequence[int]) -> Tensor:
    """(B, Q, heads, L, P, 2) locations as shares of the map; arguments as above, of one dtype."""
    dealt = offsets.unflatten(-2, (-1, reference.shape[-2]))
    around = reference[:, :, None, :, None]
    if reference.shape[-1] == 4:
        points = offsets.shape[-2]
        return (around[..., :2] + dealt / points * around[..., 2:] * 0.5).flatten(-3, -2)
    size = offsets.new_tensor([[w, h] for h, w in zip(heights, widths)])[:, None, None]
    return (around + dealt / size).flatten(-3, -2)


def _composed(
    value: Tensor, heights: Sequence[int], widths: Sequence[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """The plain form: weights and locations are tensors of their own. The oracle of the tests."""
    wide = torch.promote_types(value.dtype, torch.float32)
    locations = sampling_points(reference.to(wide), offsets.to(wide), heights, widths)
    weights = logits.to(wide).flatten(-2).softmax(-1).view(logits.shape)
    return multi_scale_deformable_attention(value, list(zip(heights, widths)), locations, weights)


def _check_shapes(
    value: Tensor, heights: list[int], widths: list[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> None:
    batch, pixels, heads, _ = value.shape
    name, levels = "folded_deformable_attention", len(heights)
    if sum(h * w for h, w in zip(heights, widths)) != pixels:
        raise ValueError(f"{name}: levels {list(zip(heights, widths))} do not add up to {pixels} rows of value")
    expected = (batch, logits.shape[1], heads, levels, logits.shape[-1])
    if tuple(logits.shape) != expected or tuple(offsets.shape) != (*expected, 2):
        raise ValueError(
            f"{name}: logits {tuple(logits.shape)} and offsets {tuple(offsets.shape)} should be {expected} and "
            f"{(*expected, 2)}"
        )
    fits = reference.ndim == 5 and tuple(reference.shape[:2]) == expected[:2] and reference.shape[2] in (1, levels)
    if not fits or reference.shape[-1] not in (2, 4) or logits.shape[-1] % reference.shape[3]:
        raise ValueError(
            f"{name}: reference has shape {tuple(reference.shape)}, expected (B, Q, 1 or L, D, 2 or 4) = "
            f"{(*expected[:2], f'1 or {levels}', f'a divisor of {expected[-1]}', '2 or 4')}"
        )


def _plugin(
    value: Tensor, heights: list[int], widths: list[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    starts = [0]
    for height, width in zip(heights, widths):
        starts.append(starts[-1] + height * width)
    levels = torch.tensor([list(row) for row in zip(heights, widths, starts)], dtype=torch.int32, device=value.device)
    inputs = value, levels, reference.to(torch.float32), offsets, logits
    shape = (value.shape[0], offsets.shape[1], value.shape[2] * value.shape[3])
    return plugin_node("deformable_attention", inputs, {}, shape, value)


@torch.library.custom_op("bev::folded_deformable_attention", mutates_args=())
def _folded(
    value: Tensor, heights: Sequence[int], widths: Sequence[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    if 0 in (value.numel(), logits.numel()):
        return value.new_zeros(value.shape[0], offsets.shape[1], value.shape[2] * value.shape[3])
    if takes(value.device):
        from bev.ops.triton import folded_deformable_attention as kernels

        return kernels.forward(value, heights, widths, reference, offsets, logits)
    return _composed(value, heights, widths, reference, offsets, logits)


@_folded.register_fake
def _(
    value: Tensor, heights: Sequence[int], widths: Sequence[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    return value.new_empty(value.shape[0], offsets.shape[1], value.shape[2] * value.shape[3])


@torch.library.custom_op("bev::folded_deformable_attention_backward", mutates_args=())
def _folded_backward(
    grad: Tensor,
    out: Tensor,
    value: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    moves: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of value, reference (zeros unless ``moves``), offsets and logits; contiguous, in their dtypes."""
    leaves = value, reference, offsets, logits
    if 0 in (value.numel(), logits.numel()):
        return tuple(x.new_zeros(x.shape) for x in leaves)  # type: ignore[return-value]
    if takes(value.device):
        from bev.ops.triton import folded_deformable_attention as kernels

        return kernels.backward(grad, out, value, heights, widths, reference, offsets, logits, moves)
    return _composed_backward(grad, value, heights, widths, reference, offsets, logits, moves)


def _composed_backward(
    grad: Tensor,
    value: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    moves: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Through the gradient of the unfolded operator; written out, for autograd does not reach into an operator."""
    wide = torch.promote_types(value.dtype, torch.float32)
    near, raw = reference.to(wide), offsets.to(wide)
    locations = sampling_points(near, raw, heights, widths)
    weights = logits.to(wide).flatten(-2).softmax(-1).view(logits.shape)
    by_value, by_locations, by_weights = _attention_backward(
        grad.to(wide), value.to(wide), heights, widths, locations, weights
    )
    by_logits = weights * (by_weights - (weights * by_weights).sum((-2, -1), keepdim=True))
    if reference.shape[-1] == 4:
        dealt = by_locations.unflatten(-2, (-1, reference.shape[-2]))
        steps = near[:, :, None, :, None, :, 2:] * (0.5 / offsets.shape[-2])
        by_offsets = (dealt * steps).flatten(-3, -2)
    else:
        by_offsets = by_locations / raw.new_tensor([[w, h] for h, w in zip(heights, widths)])[:, None]
    by_reference = reference_gradient(by_locations, reference, offsets) if moves else torch.zeros_like(reference)
    grads = zip((by_value, by_reference, by_offsets, by_logits), (value, reference, offsets, logits))
    first, second, third, fourth = (x.to(like.dtype).contiguous() for x, like in grads)
    return first, second, third, fourth


def reference_gradient(by_locations: Tensor, reference: Tensor, offsets: Tensor) -> Tensor:
    """Gradient of the reference points from that of the locations (B, Q, heads, L, P, 2).

    Sums over heads, over the samples of a point and, where one point serves all, over levels.
    """
    dealt = by_locations.unflatten(-2, (-1, reference.shape[3]))  # (B, Q, heads, L, P / D, D, 2)
    parts = [dealt]
    if reference.shape[-1] == 4:
        steps = offsets.to(by_locations.dtype).unflatten(-2, (-1, reference.shape[3]))
        parts.append(dealt * steps * (0.5 / offsets.shape[-2]))
    total = torch.cat(parts, -1).sum((2, 4))
    return (total if reference.shape[2] > 1 else total.sum(2, keepdim=True)).to(reference.dtype).contiguous()


@_folded_backward.register_fake
def _(
    grad: Tensor,
    out: Tensor,
    value: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    moves: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (value, reference, offsets, logits))  # type: ignore[return-value]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.heights, ctx.widths, reference, offsets, logits = inputs
    ctx.save_for_backward(output, value, reference, offsets, logits)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    out, value, *rest = ctx.saved_tensors
    moves = ctx.needs_input_grad[3]
    by_value, by_reference, by_offsets, by_logits = _folded_backward(
        grad.contiguous(), out, value, ctx.heights, ctx.widths, *rest, moves
    )
    return by_value, None, None, by_reference if moves else None, by_offsets, by_logits


_folded.register_autograd(_backward, setup_context=_setup_context)
