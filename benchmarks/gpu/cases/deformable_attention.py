"""Multi-scale deformable attention at BEVFormer-base's and Deformable DETR's sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.case import Build, Case, size_bytes
from bev.ops.deformable_attention import _attention_reference, multi_scale_deformable_attention

Shapes = Sequence[tuple[int, int]]


def _build(batch: int, queries: int, shapes: Shapes, points: int) -> Build:
    def inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
        b, q, levels, heads = (1, 5, [(3, 4), (2, 2)], 2) if quick else (batch, queries, list(shapes), 8)
        generator = torch.Generator().manual_seed(0)
        value = torch.randn(b, sum(h * w for h, w in levels), heads, 4 if quick else 32, generator=generator)
        locations = torch.rand(b, q, heads, len(levels), points, 2, generator=generator)
        weights = torch.rand(b, q, heads, len(levels) * points, generator=generator).softmax(-1)
        # Locations stay in float32, as the models keep them: bf16 would move them by cells.
        return (
            value.to(device, dtype).requires_grad_(),
            levels,
            locations.to(device).requires_grad_(),
            weights.unflatten(-1, (-1, points)).to(device, dtype).requires_grad_(),
        )

    return inputs


def _reference(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    wide = torch.promote_types(value.dtype, torch.float32)
    heights, widths = [h for h, _ in shapes], [w for _, w in shapes]
    return _attention_reference(value.to(wide), heights, widths, locations.to(wide), weights.to(wide)).to(value.dtype)


def _bytes(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> int:
    out = weights.shape[0] * weights.shape[1] * value.shape[2] * value.shape[3] * value.element_size()
    return size_bytes(value, locations, weights) + out


def _flops(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> int:
    return 2 * 4 * weights.numel() * value.shape[3]


_SIZES: dict[str, tuple[int, int, Shapes, int]] = {
    "BEVFormer-base, temporal: 2x40000 queries, 200x200 cells": (2, 40_000, [(200, 200)], 4),
    "BEVFormer-base, spatial: 6x9000 queries, four levels": (6, 9_000, [(116, 200), (58, 100), (29, 50), (15, 25)], 8),
    "BEVFormer-base, decoder: 900 queries, 200x200 cells": (1, 900, [(200, 200)], 4),
    "Deformable DETR encoder: 2x13294 queries, four levels": (2, 13_294, [(100, 100), (50, 50), (25, 25), (13, 13)], 4),
}
CASES = [
    Case(
        "multi_scale_deformable_attention", size, _build(*sizes), _reference, multi_scale_deformable_attention,
        _bytes, _flops,
    )
    for size, sizes in _SIZES.items()
]  # fmt: skip
