"""Deformable convolution in one kernel: a tile of pixels and output channels a program, no columns in memory.

For each kernel position the tile's pixels are sampled once per block of input channels and multiplied with the weights
by the tensor cores, summed in float32. Arguments are inputs, sizes, outputs, constants (TensorRT's order). Forward
only: it serves exported plugins; training and eager inference run :mod:`bev.ops.deform_conv`.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from bev.ops.triton.deformable_attention import _axis

_PIXELS, _OUTPUTS, _CHANNELS = 32, 64, 16  # sides of a tile


@triton.jit
def _tile(  # type: ignore[no-untyped-def]
    maps, offset, mask, weight, out_channels, height, width, out_height, out_width, stride_y, stride_x, pad_y, pad_x,
    dilation_y, dilation_x, out,
    CHANNELS: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, MASKED: tl.constexpr,
    PIXELS: tl.constexpr, OUTPUTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pixels = out_height * out_width
    frame = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    target = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    live = pixel < pixels
    total = tl.zeros((PIXELS, OUTPUTS), tl.float32)
    taps: tl.constexpr = ROWS * COLUMNS
    share: tl.constexpr = CHANNELS // GROUPS
    for tap in range(GROUPS * taps):
        group, k = tap // taps, tap % taps
        moved = offset + (frame * (2 * GROUPS * taps) + 2 * tap) * pixels + pixel
        dy, dx = tl.load(moved, live, 0.0).to(tl.float32), tl.load(moved + pixels, live, 0.0).to(tl.float32)
        y = (pixel // out_width * stride_y - pad_y + k // COLUMNS * dilation_y).to(tl.float32) + dy
        x = (pixel % out_width * stride_x - pad_x + k % COLUMNS * dilation_x).to(tl.float32) + dx
        y0, fy, top, bottom = _axis((y + 0.5) / height, height)
        x0, fx, left, right = _axis((x + 0.5) / width, width)
        factor = tl.where((x == x) & (y == y), 1.0, float("nan"))
        if MASKED:
            factor *= tl.load(mask + (frame * (GROUPS * taps) + tap) * pixels + pixel, live, 0.0).to(tl.float32)
        for start in range(0, share, BLOCK):
            channel = start + tl.arange(0, BLOCK)
            known = channel < share
            source = maps + ((frame * CHANNELS + group * share + channel) * height * width)[None]
            read = tl.zeros((PIXELS, BLOCK), tl.float32)
            for corner in tl.static_range(4):
                inside = live & (right if corner % 2 else left) & (bottom if corner // 2 else top)
                part = factor * (fx if corner % 2 else 1 - fx) * (fy if corner // 2 else 1 - fy)
                place = (y0 + corner // 2) * width + x0 + corner % 2
                value = tl.load(source + place[:, None], inside[:, None] & known[None], 0.0).to(tl.float32)
                read += part[:, None] * value
            row = (target.to(tl.int64)[None] * CHANNELS + (group * share + channel)[:, None]) * taps + k
            factors = tl.load(weight + row, known[:, None] & (target < out_channels)[None], 0.0)
            # Half precision meets the tensor cores as it is, single precision in full.
            total += tl.dot(read.to(factors.dtype), factors, input_precision="ieee")
    place = (frame * out_channels + target)[None] * pixels + pixel[:, None]
    inside = live[:, None] & (target < out_channels)[None]
    tl.store(out + place, total.to(out.dtype.element_ty), inside)


@triton.jit
def _modulated(  # type: ignore[no-untyped-def]
    maps, offset, mask, weight, out_channels, height, width, out_height, out_width, stride_y, stride_x, pad_y, pad_x,
    dilation_y, dilation_x, out,
    CHANNELS: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, MASKED: tl.constexpr,
    PIXELS: tl.constexpr, OUTPUTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    _tile(
        maps, offset, mask, weight, out_channels, height, width, out_height, out_width, stride_y, stride_x, pad_y,
        pad_x, dilation_y, dilation_x, out, CHANNELS, GROUPS, ROWS, COLUMNS, MASKED, PIXELS, OUTPUTS, BLOCK,
    )  # fmt: skip


@triton.jit
def _plain(  # type: ignore[no-untyped-def]
    maps, offset, weight, out_channels, height, width, out_height, out_width, stride_y, stride_x, pad_y, pad_x,
    dilation_y, dilation_x, out,
    CHANNELS: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, MASKED: tl.constexpr,
    PIXELS: tl.constexpr, OUTPUTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    _tile(
        maps, offset, offset, weight, out_channels, height, width, out_height, out_width, stride_y, stride_x, pad_y,
        pad_x, dilation_y, dilation_x, out, CHANNELS, GROUPS, ROWS, COLUMNS, MASKED, PIXELS, OUTPUTS, BLOCK,
    )  # fmt: skip


def constants(channels: int, groups: int, kernel: tuple[int, int], masked: bool) -> dict[str, Any]:
    """Compile-time constants: input channels, deformable groups, (rows, columns) of the kernel, version 2 or 1."""
    sizes = {"CHANNELS": channels, "GROUPS": groups, "ROWS": kernel[0], "COLUMNS": kernel[1], "MASKED": masked}
    return {**sizes, "PIXELS": _PIXELS, "OUTPUTS": _OUTPUTS, "BLOCK": _CHANNELS}


def grid(batch: int, out_channels: int, pixels: int) -> tuple[int, int, int]:
    """Programs along pixels, output channels and frames."""
    return triton.cdiv(pixels, _PIXELS), triton.cdiv(out_channels, _OUTPUTS), batch


def forward(
    maps: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """As :func:`bev.ops.deform_conv.deform_conv2d` for ``groups=1``, without a bias; not empty."""
    (out_height, out_width), (rows, columns) = offset.shape[2:], weight.shape[2:]
    groups = offset.shape[1] // (2 * rows * columns)
    out = maps.new_empty(len(maps), len(weight), out_height, out_width)
    sizes = len(weight), *maps.shape[2:], out_height, out_width, *stride, *padding, *dilation
    settings = constants(maps.shape[1], groups, (rows, columns), mask is not None)
    inputs = [x.contiguous() for x in (maps, offset, mask, weight) if x is not None]
    kernel = _plain if mask is None else _modulated
    kernel[grid(len(maps), len(weight), out_height * out_width)](*inputs, *sizes, out, **settings)
    return out
