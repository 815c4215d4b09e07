"""Camera feature sampling on the GPU: one query a program, channels across its lanes, unseen cameras skipped.

Points come as pixels with a mask, or in the reference frame with the cameras' matrices: then the projection and the
visibility test are done here, and neither pixels nor masks are ever written. Maps may have any strides; those whose
channels lie together (channels_last) are read in whole lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bev.ops.triton.deformable_attention import _axis

LANES = 256  # channels a program of the forward pass, at most
_MIN_DEPTH_M = tl.constexpr(1e-5)  # bev.geometry.projection.MIN_DEPTH_M


@triton.jit
def _project(points, matrices, place, camera, height, width, WIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Pixel of a point, its depth, and whether the camera sees it."""
    x, y, z = tl.load(points + place), tl.load(points + place + 1), tl.load(points + place + 2)
    m = matrices + camera * 16
    first = tl.load(m) * x + tl.load(m + 1) * y + tl.load(m + 2) * z + tl.load(m + 3)
    second = tl.load(m + 4) * x + tl.load(m + 5) * y + tl.load(m + 6) * z + tl.load(m + 7)
    depth = tl.load(m + 8) * x + tl.load(m + 9) * y + tl.load(m + 10) * z + tl.load(m + 11)
    u, v = first / tl.maximum(depth, _MIN_DEPTH_M), second / tl.maximum(depth, _MIN_DEPTH_M)
    seen = (depth > _MIN_DEPTH_M) & (u > 0) & (u < width) & (v > 0) & (v < height)
    return u.to(WIDE), v.to(WIDE), depth, seen


@triton.jit
def _given(pixels, visible, place, WIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The same where pixels and visibility are known; the depth is not."""
    u, v = tl.load(pixels + 2 * place).to(WIDE), tl.load(pixels + 2 * place + 1).to(WIDE)
    return u, v, u, tl.load(visible + place) != 0


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    features, points, second, weights,
    queries, image_height, image_width, maps,
    out,
    CAMERAS: tl.constexpr, POINTS: tl.constexpr, CHANNELS: tl.constexpr, PROJECT: tl.constexpr, WIDE: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    frame, query = row // queries, row % queries
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    total = tl.zeros((LANES,), WIDE)
    for camera in range(CAMERAS):
        for point in range(POINTS):
            if PROJECT:
                spot, view = (row * POINTS + point) * 3, frame * CAMERAS + camera
                u, v, _, seen = _project(points, second, spot, view, image_height, image_width, WIDE)
            else:
                place = ((frame * CAMERAS + camera) * queries + query) * POINTS + point
                u, v, _, seen = _given(points, second, place, WIDE)
            if seen:
                sample = ((row * CAMERAS + camera) * POINTS + point) * len(features)
                for level in tl.static_range(len(features)):
                    height, width, step_b, step_n, step_c, step_y, step_x = maps[level]
                    x0, fx, left, right = _axis(u / image_width, width)
                    y0, fy, top, bottom = _axis(v / image_height, height)
                    weight = tl.load(weights + sample + level).to(WIDE)
                    weight = tl.where((u == u) & (v == v), weight, float("nan"))
                    base = features[level] + frame * step_b + camera * step_n + lane.to(tl.int64) * step_c
                    for corner in tl.static_range(4):
                        inside = (right if corner % 2 else left) & (bottom if corner // 2 else top)
                        share = weight * (fx if corner % 2 else 1 - fx) * (fy if corner // 2 else 1 - fy)
                        pixel = (y0 + corner // 2).to(tl.int64) * step_y + (x0 + corner % 2).to(tl.int64) * step_x
                        total += share * tl.load(base + pixel, inside & (lane < CHANNELS), 0.0).to(WIDE)
    tl.store(out + row * CHANNELS + lane, total.to(out.dtype.element_ty), lane < CHANNELS)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, features, points, second, weights,
    queries, image_height, image_width, maps,
    grad_features, grad_points, grad_weights,
    CAMERAS: tl.constexpr, POINTS: tl.constexpr, CHANNELS: tl.constexpr, PROJECT: tl.constexpr, WIDE: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    frame, query = row // queries, row % queries
    lane = tl.arange(0, LANES)
    above = tl.load(grad + row * CHANNELS + lane, lane < CHANNELS, 0.0).to(WIDE)
    for point in range(POINTS):
        spot = (row * POINTS + point) * 3
        by_first, by_second, by_third = 0.0, 0.0, 0.0
        for camera in range(CAMERAS):
            place = ((frame * CAMERAS + camera) * queries + query) * POINTS + point
            if PROJECT:
                u, v, depth, seen = _project(
                    points, second, spot, frame * CAMERAS + camera, image_height, image_width, WIDE
                )
            else:
                u, v, depth, seen = _given(points, second, place, WIDE)
            if seen:
                sample = ((row * CAMERAS + camera) * POINTS + point) * len(features)
                by_u, by_v = u * 0, v * 0
                for level in tl.static_range(len(features)):
                    height, width, step_b, step_n, step_c, step_y, step_x = maps[level]
                    x0, fx, left, right = _axis(u / image_width, width)
                    y0, fy, top, bottom = _axis(v / image_height, height)
                    weight = tl.load(weights + sample + level).to(WIDE)
                    weight = tl.where((u == u) & (v == v), weight, float("nan"))
                    base = features[level] + frame * step_b + camera * step_n + lane.to(tl.int64) * step_c
                    table = (frame * CAMERAS + camera) * height * width
                    by_weight, by_x, by_y = u * 0, u * 0, u * 0
                    for corner in tl.static_range(4):
                        inside = (right if corner % 2 else left) & (bottom if corner // 2 else top)
                        mask = inside & (lane < CHANNELS)
                        wx, wy = (fx if corner % 2 else 1 - fx), (fy if corner // 2 else 1 - fy)
                        y, x = (y0 + corner // 2).to(tl.int64), (x0 + corner % 2).to(tl.int64)
                        read = tl.load(base + y * step_y + x * step_x, mask, 0.0).to(WIDE)
                        product = tl.sum(above * read, 0)
                        into = grad_features[level] + (table + y * width + x) * CHANNELS + lane
                        tl.atomic_add(into, above * (weight * wx * wy), mask)
                        by_weight += wx * wy * product
                        by_x += (wy if corner % 2 else -wy) * product
                        by_y += (wx if corner // 2 else -wx) * product
                    tl.store(grad_weights + sample + level, by_weight.to(grad_weights.dtype.element_ty))
                    by_u += by_x * weight * width / image_width
                    by_v += by_y * weight * height / image_height
                if PROJECT:
                    m = second + (frame * CAMERAS + camera) * 16
                    by_depth = -(by_u * u + by_v * v)
                    by_first += (by_u * tl.load(m) + by_v * tl.load(m + 4) + by_depth * tl.load(m + 8)) / depth
                    by_second += (by_u * tl.load(m + 1) + by_v * tl.load(m + 5) + by_depth * tl.load(m + 9)) / depth
                    by_third += (by_u * tl.load(m + 2) + by_v * tl.load(m + 6) + by_depth * tl.load(m + 10)) / depth
                else:
                    tl.store(grad_points + 2 * place, by_u)
                    tl.store(grad_points + 2 * place + 1, by_v)
        if PROJECT:
            tl.store(grad_points + spot, by_first)
            tl.store(grad_points + spot + 1, by_second)
            tl.store(grad_points + spot + 2, by_third)


def _launch(
    features: Sequence[Tensor], points: Tensor, weights: Tensor, image_size_px: tuple[int, int], project: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Sizes (queries, image height and width, each level's map) and constants of a launch."""
    cameras, channels = features[0].shape[1:3]
    wide = tl.float64 if points.dtype == torch.float64 else tl.float32
    maps = tuple((*feature.shape[-2:], *feature.stride()) for feature in features)
    constants = {"CAMERAS": cameras, "POINTS": weights.shape[3], "CHANNELS": channels, "PROJECT": project, "WIDE": wide}
    return (weights.shape[1], *image_size_px, maps), constants


def _dense(points: Tensor, second: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    second = second.view(torch.uint8) if second.dtype == torch.bool else second
    return points.contiguous(), second.contiguous(), weights.contiguous()


def forward(
    features: Sequence[Tensor],
    points: Tensor,
    second: Tensor,
    weights: Tensor,
    image_size_px: tuple[int, int],
    project: bool,
) -> Tensor:
    """Sum of bilinear samples over cameras, points and levels.

    Args:
        features: L maps (B, N, C, H_l, W_l) of one dtype, any strides.
        points: (B, Q, P, 3) float32 m where projected here, else (B, N, Q, P, 2) px.
        second: (B, N, 4, 4) float32 ``img_from_ref`` where projected here, else (B, N, Q, P) bool.
        weights: (B, Q, N, P, L).
        project: which of the two.

    Returns:
        (B, Q, C) in the dtype of ``points``.
    """
    sizes, constants = _launch(features, points, weights, image_size_px, project)
    out = points.new_empty(*weights.shape[:2], features[0].shape[2])
    lanes = min(LANES, triton.next_power_of_2(out.shape[2]))
    grid = out.shape[0] * out.shape[1], triton.cdiv(out.shape[2], lanes)
    _forward[grid](tuple(features), *_dense(points, second, weights), *sizes, out, **constants, LANES=lanes)
    return out


def backward(
    grad: Tensor,
    features: Sequence[Tensor],
    points: Tensor,
    second: Tensor,
    weights: Tensor,
    image_size_px: tuple[int, int],
    project: bool,
) -> list[Tensor]:
    """Gradients of each map (laid out channels_last), then of the points, then of the weights, in their dtypes.

    Sums into the maps are atomic, in float32 at least, in no fixed order; the others are exact repeats.
    """
    sizes, constants = _launch(features, points, weights, image_size_px, project)
    tables = []
    for feature in features:
        b, n, c, h, w = feature.shape
        tables.append(feature.new_zeros(b, n, h, w, c, dtype=torch.promote_types(feature.dtype, torch.float32)))
    by_points, by_weights = points.new_zeros(points.shape), weights.new_zeros(weights.shape)
    lanes = triton.next_power_of_2(grad.shape[2])
    inputs = grad.contiguous(), tuple(features), *_dense(points, second, weights)
    outputs = tuple(tables), by_points, by_weights
    _backward[(grad.shape[0] * grad.shape[1],)](*inputs, *sizes, *outputs, **constants, LANES=lanes)
    maps = [table.to(feature.dtype).permute(0, 1, 4, 2, 3) for table, feature in zip(tables, features)]
    return [*maps, by_points, by_weights]
