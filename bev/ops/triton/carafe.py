"""Content-aware upsampling on the GPU: a tile of fine pixels and channels a program, no unfolded neighbourhoods.

All three passes gather, so that results repeat exactly. Sums are float32 at least.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bev.ops.triton.rows import compute_type

_PIXELS, _LANES = 64, 16  # sides of a tile


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    maps, masks, out, height, width, share, SIDE: tl.constexpr, SCALE: tl.constexpr,
    PIXELS: tl.constexpr, LANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """``share`` channels a group; program 2 is a frame and group."""
    area: tl.constexpr = SIDE * SIDE
    fine = height * width * SCALE * SCALE
    frame = tl.program_id(2).to(tl.int64)  # of frames x groups
    pixel, lane = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS), tl.program_id(1) * LANES + tl.arange(0, LANES)
    y, x = pixel // (width * SCALE) // SCALE, pixel % (width * SCALE) // SCALE
    plane = (frame * share + lane)[None]
    total = tl.zeros((PIXELS, LANES), WIDE)
    for tap in range(area):
        row, column = y + tap // SIDE - SIDE // 2, x + tap % SIDE - SIDE // 2
        inside = (pixel < fine) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        weight = tl.load(masks + (frame * area + tap) * fine + pixel, pixel < fine, 0.0).to(WIDE)
        place = plane * (height * width) + (row * width + column)[:, None]
        total += weight[:, None] * tl.load(maps + place, inside[:, None] & (lane < share)[None], 0.0).to(WIDE)
    mask = (pixel < fine)[:, None] & (lane < share)[None]
    tl.store(out + plane * fine + pixel[:, None], total.to(out.dtype.element_ty), mask)


@triton.jit
def _by_maps(  # type: ignore[no-untyped-def]
    grad, masks, out, height, width, share, SIDE: tl.constexpr, SCALE: tl.constexpr,
    PIXELS: tl.constexpr, LANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """A tile of coarse pixels and channels: what every fine pixel took of them."""
    area: tl.constexpr = SIDE * SIDE
    fine = height * width * SCALE * SCALE
    frame = tl.program_id(2).to(tl.int64)
    pixel, lane = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS), tl.program_id(1) * LANES + tl.arange(0, LANES)
    y, x = pixel // width, pixel % width
    plane = (frame * share + lane)[None]
    total = tl.zeros((PIXELS, LANES), WIDE)
    for step in range(area * SCALE * SCALE):
        tap, part = step // (SCALE * SCALE), step % (SCALE * SCALE)
        row, column = y - tap // SIDE + SIDE // 2, x - tap % SIDE + SIDE // 2
        inside = (pixel < height * width) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        place = (row * SCALE + part // SCALE) * (width * SCALE) + column * SCALE + part % SCALE
        weight = tl.load(masks + (frame * area + tap) * fine + place, inside, 0.0).to(WIDE)
        mask = inside[:, None] & (lane < share)[None]
        total += weight[:, None] * tl.load(grad + plane * fine + place[:, None], mask, 0.0).to(WIDE)
    mask = (pixel < height * width)[:, None] & (lane < share)[None]
    tl.store(out + plane * (height * width) + pixel[:, None], total.to(out.dtype.element_ty), mask)


@triton.jit
def _by_masks(  # type: ignore[no-untyped-def]
    grad, maps, out, height, width, share, SIDE: tl.constexpr, SCALE: tl.constexpr,
    PIXELS: tl.constexpr, LANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One neighbour of a tile of fine pixels: the product over the group's channels."""
    area: tl.constexpr = SIDE * SIDE
    fine = height * width * SCALE * SCALE
    tap, frame = tl.program_id(1), tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    row = pixel // (width * SCALE) // SCALE + tap // SIDE - SIDE // 2
    column = pixel % (width * SCALE) // SCALE + tap % SIDE - SIDE // 2
    inside = (pixel < fine) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    total = tl.zeros((PIXELS,), WIDE)
    for start in range(0, share, LANES):
        lane = start + tl.arange(0, LANES)
        plane, mask = (frame * share + lane)[None], inside[:, None] & (lane < share)[None]
        above = tl.load(grad + plane * fine + pixel[:, None], mask, 0.0).to(WIDE)
        below = tl.load(maps + plane * (height * width) + (row * width + column)[:, None], mask, 0.0).to(WIDE)
        total += tl.sum(above * below, 1)
    tl.store(out + (frame * area + tap) * fine + pixel, total.to(out.dtype.element_ty), pixel < fine)


def _sizes(maps: Tensor, groups: int, kernel_size: int, scale: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    channels, height, width = maps.shape[1:]
    constants = {"SIDE": kernel_size, "SCALE": scale, "PIXELS": _PIXELS, "LANES": _LANES}
    return (height, width, channels // groups), {**constants, "WIDE": compute_type(maps.dtype)}


def forward(maps: Tensor, masks: Tensor, kernel_size: int, scale: int) -> Tensor:
    """As :func:`bev.ops.carafe.carafe`; not empty."""
    (batch, channels, height, width), groups = maps.shape, masks.shape[1] // kernel_size**2
    out = torch.empty(batch, channels, height * scale, width * scale, dtype=maps.dtype, device=maps.device)
    sizes, constants = _sizes(maps, groups, kernel_size, scale)
    grid = triton.cdiv(height * width * scale * scale, _PIXELS), triton.cdiv(sizes[-1], _LANES), batch * groups
    _forward[grid](maps.contiguous(), masks.contiguous(), out, *sizes, **constants)
    return out


def backward(grad: Tensor, maps: Tensor, masks: Tensor, kernel_size: int, scale: int) -> tuple[Tensor, Tensor]:
    """Gradients of maps and masks, in their dtypes; not empty."""
    (batch, _, height, width), groups = maps.shape, masks.shape[1] // kernel_size**2
    grad, maps, masks = grad.contiguous(), maps.contiguous(), masks.contiguous()
    by_maps, by_masks = torch.empty_like(maps), torch.empty_like(masks)
    sizes, constants = _sizes(maps, groups, kernel_size, scale)
    grid = triton.cdiv(height * width, _PIXELS), triton.cdiv(sizes[-1], _LANES), batch * groups
    _by_maps[grid](grad, masks, by_maps, *sizes, **constants)
    grid = triton.cdiv(height * width * scale * scale, _PIXELS), kernel_size**2, batch * groups
    _by_masks[grid](grad, maps, by_masks, *sizes, **constants)
    return by_maps, by_masks
