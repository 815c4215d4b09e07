"""Deformable convolution (both versions), deformable attention and CARAFE, forwards and backwards."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops import deform_conv2d, multi_scale_deformable_attention
from bev.ops.carafe import carafe
from projects.mmdet3d.ext.gradients import pull_back

__all__ = [
    *("deform_conv_forward", "deform_conv_backward_input", "deform_conv_backward_parameters"),
    *("modulated_deform_conv_forward", "modulated_deform_conv_backward"),
    *("ms_deform_attn_forward", "ms_deform_attn_backward"),
    *("carafe_forward", "carafe_backward", "carafe_naive_forward", "carafe_naive_backward"),
]


def _version1(maps: Tensor, offset: Tensor, weight: Tensor, sizes: dict[str, int]) -> Tensor:
    stride, padding, dilation = ((sizes[f"{name}H"], sizes[f"{name}W"]) for name in ("d", "pad", "dilation"))
    return deform_conv2d(maps, offset, None, weight, None, stride, padding, dilation, sizes["group"])


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **sizes: int
) -> None:
    """Write the convolution into ``output``; ``columns`` and ``ones`` are buffers of the compiled form, not used."""
    output.copy_(_version1(input, offset, weight, sizes))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Write the gradients of maps and offsets."""
    grads = pull_back(lambda x, o: _version1(x, o, weight, sizes), (input, offset), grad_output)
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[1])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float = 1.0,
    **sizes: int,
) -> None:
    """Add the gradient of the weights, times ``scale``, to ``grad_weight``."""
    (grad,) = pull_back(lambda w: _version1(input, offset, w, sizes), (grad_weight,), grad_output)
    grad_weight.add_(grad, alpha=scale)


def _version2(
    maps: Tensor, weight: Tensor, bias: Tensor | None, offset: Tensor, mask: Tensor, sizes: dict[str, int]
) -> Tensor:
    stride, padding, dilation = ((sizes[f"{name}_h"], sizes[f"{name}_w"]) for name in ("stride", "pad", "dilation"))
    return deform_conv2d(maps, offset, mask, weight, bias, stride, padding, dilation, sizes["group"])


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Write the convolution into ``output``; ``ones`` and ``columns`` are buffers of the compiled form, not used."""
    output.copy_(_version2(input, weight, bias if with_bias else None, offset, mask, sizes).view_as(output))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Write the gradients of maps, offsets and masks; add those of weights and bias."""
    inputs = input, weight, offset, mask
    grads = pull_back(lambda x, w, o, m: _version2(x, w, None, o, m, sizes), inputs, grad_output)
    for target, grad in zip((grad_input, grad_offset, grad_mask), (grads[0], grads[2], grads[3])):
        target.copy_(grad)
    grad_weight.add_(grads[1])
    if with_bias:
        grad_bias.add_(grad_output.sum((0, 2, 3)))


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """(B, Q, heads * C); ``im2col_step`` splits the batch of the compiled form, which is not needed here."""
    return multi_scale_deformable_attention(value, value_spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of values, locations and weights."""
    heights, widths = value_spatial_shapes.t().tolist()
    wide = torch.promote_types(value.dtype, torch.float32)
    first, *rest = (x.to(wide) for x in (value, sampling_locations, attention_weights))
    grads = torch.ops.bev.multi_scale_deformable_attention_backward(
        grad_output.to(wide).contiguous(), first, heights, widths, *rest
    )
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        target.copy_(grad)


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the upsampled maps into ``output``.

    The buffers r* hold channels-last copies in the compiled form; the wrapper hands ``rfeatures`` back to the backward
    pass instead of the features, so that they are kept there as they are.
    """
    rfeatures.copy_(features)
    output.copy_(carafe(features, masks, kernel_size, scale_factor))


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of features and masks."""
    carafe_naive_backward(
        grad_output, rfeatures, masks, grad_input, grad_masks, kernel_size, group_size, scale_factor
    )


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Write the upsampled maps into ``output``."""
    output.copy_(carafe(features, masks, kernel_size, scale_factor))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of features and masks."""
    grads = pull_back(lambda x, m: carafe(x, m, kernel_size, scale_factor), (features, masks), grad_output)
    grad_input.copy_(grads[0])
    grad_masks.copy_(grads[1])
