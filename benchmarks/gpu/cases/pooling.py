"""Lift-splat pooling at BEVDet-R50's size with the rig of a real car."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.case import Case, size_bytes
from benchmarks.lss_pool import real_plan
from bev.ops.bev_pool import PoolPlan, _bev_pool_reference, bev_pool, plan_pool


def _inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    if quick:
        cell = torch.randint(0, 5, (12, 3), generator=generator)
        plan, channels = plan_pool(cell, cell < 4, 4), 6
    else:
        plan, channels = real_plan(), 80
    rows, bins = plan.cell_of_point.shape
    depth = torch.rand(rows, bins, generator=generator).softmax(-1).to(device, dtype).requires_grad_()
    features = torch.randn(rows, channels, generator=generator).to(device, dtype).requires_grad_()
    return depth, features, PoolPlan(*(part.to(device) for part in plan))


def _bytes(depth: Tensor, features: Tensor, plan: PoolPlan) -> int:
    cells = (len(plan.offsets) - 1) * features.shape[1] * features.element_size()
    return size_bytes(depth, features, plan.order, plan.offsets) + cells


def _flops(depth: Tensor, features: Tensor, plan: PoolPlan) -> int:
    return 2 * len(plan.order) * features.shape[1]


CASES = [
    Case(
        "bev_pool", "BEVDet-R50: 6x59x16x44 points, 80 channels, 128x128 cells",
        _inputs, _bev_pool_reference, bev_pool, _bytes, _flops,
    )
]  # fmt: skip
