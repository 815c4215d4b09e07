"""Operators with what precedes them folded in: deformable attention from logits, camera sampling from points."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.case import Build, Case, size_bytes
from bev.geometry.projection import in_image, project
from bev.ops.camera_sampling import _camera_sampling_reference
from bev.ops.deformable_attention import _attention_reference
from bev.ops.folded_deformable_attention import Shapes, folded_deformable_attention, sampling_points
from bev.ops.projected_sampling import projected_sampling


def _attention(batch: int, queries: int, shapes: Shapes, points: int, dealt: int) -> Build:
    def inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
        b, q, levels, heads = (1, 3, [(2, 3)], 2) if quick else (batch, queries, list(shapes), 8)
        g = torch.Generator().manual_seed(0)
        value = torch.randn(b, sum(h * w for h, w in levels), heads, 4 if quick else 32, generator=g)
        reference = torch.rand(b, q, 1, dealt, 2, generator=g)
        offsets = torch.randn(b, q, heads, len(levels), points, 2, generator=g)
        logits = torch.randn(b, q, heads, len(levels), points, generator=g)
        value, offsets, logits = (x.to(device, dtype).requires_grad_() for x in (value, offsets, logits))
        return value, levels, reference.to(device), offsets, logits

    return inputs


def _plain_attention(value: Tensor, shapes: Shapes, reference: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
    wide = torch.promote_types(value.dtype, torch.float32)
    heights, widths = [h for h, _ in shapes], [w for _, w in shapes]
    locations = sampling_points(reference.to(wide), offsets.to(wide), heights, widths)
    weights = logits.to(wide).flatten(-2).softmax(-1).view(logits.shape)
    return _attention_reference(value.to(wide), heights, widths, locations, weights).to(value.dtype)


def _attention_bytes(value: Tensor, shapes: Shapes, reference: Tensor, offsets: Tensor, logits: Tensor) -> int:
    out = logits.shape[0] * logits.shape[1] * value.shape[2] * value.shape[3] * value.element_size()
    return size_bytes(value, reference, offsets, logits) + out


def _attention_flops(value: Tensor, shapes: Shapes, reference: Tensor, offsets: Tensor, logits: Tensor) -> int:
    return 2 * 4 * logits.numel() * value.shape[3]


def _matrices(cameras: int, size_px: tuple[int, int]) -> Tensor:
    """Level cameras in the origin, evenly around, each with a view of 70 degrees."""
    height, width = size_px
    focal_px = width / 2 / math.tan(math.radians(35))
    matrices = []
    for camera in range(cameras):
        c, s = math.cos(2 * math.pi * camera / cameras), math.sin(2 * math.pi * camera / cameras)
        cam_from_ref = torch.tensor([[s, -c, 0, 0], [0, 0, -1, 0], [c, s, 0, 0], [0, 0, 0, 1]])
        intrinsics = torch.eye(4)
        intrinsics[:2, :3] = torch.tensor([[focal_px, 0, width / 2], [0, focal_px, height / 2]])
        matrices.append(intrinsics @ cam_from_ref)
    return torch.stack(matrices)[None]


def _sampling(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
    size_px, channels, queries = ((32, 64), 4, 5) if quick else ((928, 1600), 256, 900)
    levels = 2 if quick else 4
    g = torch.Generator().manual_seed(0)
    features = []
    for level in range(levels):
        stride = 8 << level
        maps = torch.randn(6, channels, size_px[0] // stride, size_px[1] // stride, generator=g)
        features.append(maps.to(device, dtype, memory_format=torch.channels_last)[None].requires_grad_())
    span = torch.tensor([100.0, 100.0, 6.0])
    points = (torch.rand(1, queries, 1, 3, generator=g) - 0.5) * span
    weights = torch.rand(1, queries, 6, 1, levels, generator=g)
    given = points.to(device).requires_grad_(), _matrices(6, size_px).to(device), weights.to(device).requires_grad_()
    return features, *given, size_px


def _plain_sampling(
    features: list[Tensor], points: Tensor, matrices: Tensor, weights: Tensor, size_px: tuple[int, int]
) -> Tensor:
    pixels, depth = project(points.squeeze(2), matrices)
    visible = in_image(pixels, depth, size_px)
    pixels = pixels.unsqueeze(3).to(weights.dtype)
    return _camera_sampling_reference(features, pixels, visible.unsqueeze(3), weights, size_px)


def _sampling_bytes(
    features: list[Tensor], points: Tensor, matrices: Tensor, weights: Tensor, size_px: tuple[int, int]
) -> int:
    """As if every query were seen once: four rows a level, not whole maps."""
    rows = points.shape[0] * points.shape[1] * features[0].shape[2]
    return size_bytes(points, matrices, weights) + rows * (4 * len(features) * features[0].element_size() + 4)


_FOUR = [(116, 200), (58, 100), (29, 50), (15, 25)]
CASES = [
    Case(
        "folded_deformable_attention", "BEVFormer-base, temporal: 40000 queries, 200x200 cells",
        _attention(1, 40_000, [(200, 200)], 4, 1), _plain_attention, folded_deformable_attention,
        _attention_bytes, _attention_flops,
    ),
    Case(
        "folded_deformable_attention", "BEVFormer-base, spatial: 6x9000 queries, four levels",
        _attention(6, 9_000, _FOUR, 8, 4), _plain_attention, folded_deformable_attention,
        _attention_bytes, _attention_flops,
    ),
    Case(
        "projected_sampling", "DETR3D: 900 queries, 6 cameras, four levels from 116x200, 256 channels",
        _sampling, _plain_sampling, projected_sampling, _sampling_bytes,
    ),
]  # fmt: skip
