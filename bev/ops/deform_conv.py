"""Modulated deformable convolution (DCNv2) in plain torch: sample once a kernel position, then one matrix product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.bilinear import bilinear_gather
from bev.ops.exporting import is_exporting


def deform_conv2d(
    maps: Tensor,  # (B, C, H, W)
    offset: Tensor,  # (B, 2 * G * K, H', W')
    mask: Tensor,  # (B, G * K, H', W')
    weight: Tensor,  # (C', C / groups, kh, kw)
    bias: Tensor | None = None,  # (C',)
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution whose kernel positions are moved by ``offset`` and scaled by ``mask``.

    Args:
        maps: input.
        offset: in cells of the input, y before x for each of the K = kh * kw positions, G deformable groups of
            channels (G is read from the shape).
        mask: factor of each position; published networks pass a sigmoid.
        weight, bias, stride, padding, dilation, groups: as in ``conv2d``.

    Returns:
        (B, C', H', W') in the dtype of ``maps``. Samples outside the map are zero. Positions are computed in float32
        even under autocast.

    Raises:
        ValueError: offset and mask do not fit the kernel.

    Reference: Zhu et al., Deformable ConvNets v2 (CVPR 2019), equation 1; the layout of offsets is that of mmcv.
    """
    kernel = weight.shape[2] * weight.shape[3]
    if mask.shape[1] % kernel or offset.shape[1] != 2 * mask.shape[1]:
        raise ValueError(
            f"deform_conv2d: a kernel of {kernel} positions needs G * {kernel} masks and twice as many offsets, "
            f"got {mask.shape[1]} and {offset.shape[1]}"
        )
    with torch.autocast(maps.device.type, enabled=False):  # bf16 cannot tell cells above 256 apart
        cells = _positions(offset, weight.shape[2:], stride, padding, dilation)
        columns = _columns(maps, cells, mask.to(cells.dtype)).to(maps.dtype)
    height, width = mask.shape[-2:]
    columns = columns.unflatten(1, (groups, -1))
    product = torch.einsum("bgkp,gok->bgop", columns, weight.to(columns.dtype).flatten(1).unflatten(0, (groups, -1)))
    result = product.flatten(1, 2).unflatten(2, (height, width))
    return result if bias is None else result + bias.to(result.dtype).view(-1, 1, 1)


def _positions(offset: Tensor, kernel: torch.Size, stride: int, padding: int, dilation: int) -> Tensor:
    """(B * G, K, H' * W', 2) x, y in cells where the kernel's positions read; float32, float64 for float64 offsets."""
    offset = offset if offset.dtype == torch.float64 else offset.float()
    height, width = offset.shape[-2:]
    yx = offset.reshape(-1, kernel.numel(), 2, height, width)
    row = torch.arange(height, device=offset.device)[:, None] * stride - padding
    column = torch.arange(width, device=offset.device) * stride - padding
    kernel_row = torch.arange(kernel[0], device=offset.device).repeat_interleave(kernel[1]) * dilation
    kernel_column = torch.arange(kernel[1], device=offset.device).repeat(kernel[0]) * dilation
    x = yx[:, :, 1] + (column + kernel_column[:, None, None])
    y = yx[:, :, 0] + (row + kernel_row[:, None, None])
    return torch.stack([x, y], -1).flatten(2, 3)


def _columns(maps: Tensor, cells: Tensor, mask: Tensor) -> Tensor:
    """(B, C * K, H' * W') what each kernel position reads, channel-major as the weights are."""
    batch, channels, height, width = maps.shape
    deform_groups = cells.shape[0] // batch
    grouped = maps.reshape(batch * deform_groups, -1, height, width).to(cells.dtype)
    if is_exporting():
        sampled = bilinear_gather(grouped, cells.flatten(1, 2)).unflatten(2, cells.shape[1:3])
    else:
        grid = (cells * 2 + 1) / cells.new_tensor([width, height]) - 1
        sampled = F.grid_sample(grouped, grid, align_corners=False)
    sampled = sampled * mask.reshape(batch * deform_groups, 1, *cells.shape[1:3])
    return sampled.reshape(batch, channels * cells.shape[1], -1)
