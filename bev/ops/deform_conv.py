"""Deformable convolution (DCNv1, DCNv2) in plain torch: sample once a kernel position, then one matrix product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.bilinear import bilinear_rows
from bev.ops.exporting import is_exporting, plugin_node, wants_plugins


def deform_conv2d(
    maps: Tensor,  # (B, C, H, W)
    offset: Tensor,  # (B, 2 * G * K, H', W')
    mask: Tensor | None,  # (B, G * K, H', W')
    weight: Tensor,  # (C', C / groups, kh, kw)
    bias: Tensor | None = None,  # (C',)
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution whose kernel positions are moved by ``offset`` and (version 2) scaled by ``mask``.

    Args:
        maps: input.
        offset: in cells of the input, y before x for each of the K = kh * kw positions, G deformable groups of
            channels (G is read from the shape).
        mask: factor of each position; published networks pass a sigmoid. None: version 1, all factors one.
        weight, bias, stride, padding, dilation, groups: as in ``conv2d``.

    Returns:
        (B, C', H', W') in the dtype of ``maps``. Samples outside the map are zero. Positions are computed in float32
        even under autocast.

    Raises:
        ValueError: offset and mask do not fit the kernel, or not the size of the output.

    Reference: Dai et al., Deformable Convolutional Networks (ICCV 2017), equation 2; Zhu et al., Deformable ConvNets v2
    (CVPR 2019), equation 1; the layout of offsets is that of mmcv.
    """
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    _check(maps, offset, mask, weight, stride, padding, dilation)
    if wants_plugins() and groups == 1:
        result = _plugin(maps, offset, mask, weight, (stride, padding, dilation))
        return result if bias is None else result + bias.to(result.dtype).view(-1, 1, 1)
    with torch.autocast(maps.device.type, enabled=False):  # bf16 cannot tell cells above 256 apart
        cells = _positions(offset, weight.shape[2:], stride, padding, dilation)
        mask = None if mask is None else mask.to(cells.dtype)
        if is_exporting():
            result = _export_form(maps, cells, mask, weight, groups, offset.shape[1]).unflatten(2, offset.shape[-2:])
            return result if bias is None else result + bias.to(result.dtype).view(-1, 1, 1)
        columns = _columns(maps, cells, mask).to(maps.dtype)
    height, width = offset.shape[-2:]
    columns = columns.unflatten(1, (groups, -1))
    product = torch.einsum("bgkp,gok->bgop", columns, weight.to(columns.dtype).flatten(1).unflatten(0, (groups, -1)))
    result = product.flatten(1, 2).unflatten(2, (height, width))
    return result if bias is None else result + bias.to(result.dtype).view(-1, 1, 1)


def _plugin(
    maps: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: tuple[tuple[int, int], ...]
) -> Tensor:
    """One node of an exported graph; without a mask version 1, which is another plugin."""
    names = (f"{name}_{axis}" for name in ("stride", "padding", "dilation") for axis in "yx")
    sizes = dict(zip(names, (side for pair in geometry for side in pair)))
    shape = (maps.shape[0], weight.shape[0], *offset.shape[2:])
    if mask is None:
        return plugin_node("deform_conv", (maps, offset, weight), sizes, shape, maps)
    return plugin_node("modulated_deform_conv", (maps, offset, mask, weight), sizes, shape, maps)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _check(
    maps: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    kernel = weight.shape[2] * weight.shape[3]
    masks = offset.shape[1] // 2 if mask is None else mask.shape[1]
    if masks % kernel or offset.shape[1] != 2 * masks:
        raise ValueError(
            f"deform_conv2d: a kernel of {kernel} positions needs G * {kernel} masks and twice as many offsets, "
            f"got {masks} and {offset.shape[1]}"
        )
    size = [
        (maps.shape[2 + a] + 2 * padding[a] - dilation[a] * (weight.shape[2 + a] - 1) - 1) // stride[a] + 1
        for a in (0, 1)
    ]
    if list(offset.shape[2:]) != size or (mask is not None and list(mask.shape[2:]) != size):
        raise ValueError(f"deform_conv2d: offsets and masks must be {size} like the output, got {list(offset.shape)}")


def _positions(
    offset: Tensor, kernel: torch.Size, stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    """(B * G, K, H' * W', 2) x, y in cells where the kernel's positions read; float32, float64 for float64 offsets."""
    offset = offset if offset.dtype == torch.float64 else offset.float()
    height, width = offset.shape[-2:]
    yx = offset.reshape(-1, kernel.numel(), 2, height, width)
    row = torch.arange(height, device=offset.device)[:, None] * stride[0] - padding[0]
    column = torch.arange(width, device=offset.device) * stride[1] - padding[1]
    kernel_row = torch.arange(kernel[0], device=offset.device).repeat_interleave(kernel[1]) * dilation[0]
    kernel_column = torch.arange(kernel[1], device=offset.device).repeat(kernel[0]) * dilation[1]
    x = yx[:, :, 1] + (column + kernel_column[:, None, None])
    y = yx[:, :, 0] + (row + kernel_row[:, None, None])
    return torch.stack([x, y], -1).flatten(2, 3)


def _export_form(
    maps: Tensor, cells: Tensor, mask: Tensor | None, weight: Tensor, groups: int, offset_channels: int
) -> Tensor:
    """(B, C', H' * W') of whole pixels, gathered as rows: kernel positions lie beside each other as a product wants.

    The number of deformable groups is read from channels, not from the batch, which may vary.
    """
    kernel, places = weight.shape[2] * weight.shape[3], cells.shape[2]
    batch, _, height, width = maps.shape
    deform_groups = offset_channels // (2 * kernel)
    rows = maps.reshape(batch * deform_groups, -1, height * width).transpose(1, 2).to(cells.dtype)
    factor = None if mask is None else mask.reshape(-1, kernel, places).transpose(1, 2).flatten(1)
    sampled = bilinear_rows(rows, (height, width), cells.transpose(1, 2).flatten(1, 2), factor).to(maps.dtype)
    sampled = sampled.view(batch, deform_groups, places, kernel, rows.shape[2]).permute(0, 2, 3, 1, 4).flatten(3)
    columns = sampled.unflatten(3, (groups, -1)).permute(0, 3, 1, 2, 4).flatten(3)  # (B, groups, P, K * C / groups)
    factors = weight.to(columns.dtype).flatten(2).unflatten(0, (groups, -1)).permute(0, 3, 2, 1).flatten(1, 2)
    return (columns @ factors).transpose(2, 3).flatten(1, 2)


def _columns(maps: Tensor, cells: Tensor, mask: Tensor | None) -> Tensor:
    """(B, C * K, H' * W') what each kernel position reads, channel-major as the weights are."""
    batch, channels, height, width = maps.shape
    deform_groups = cells.shape[0] // batch
    grouped = maps.reshape(batch * deform_groups, -1, height, width).to(cells.dtype)
    grid = (cells * 2 + 1) / cells.new_tensor([width, height]) - 1
    sampled = F.grid_sample(grouped, grid, align_corners=False)
    if mask is not None:
        sampled = sampled * mask.reshape(batch * deform_groups, 1, *cells.shape[1:3])
    return sampled.reshape(batch, channels * cells.shape[1], -1)
