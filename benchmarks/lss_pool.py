"""Lift-splat pooling: ours against the published cumulative-sum trick and a plain index_add.

BEVDet-R50's geometry of a real rig: six cameras, 59 depth bins, 16 x 44 feature pixels, 128 x 128 cells. Ours sorts
once a rig (its own row); the cumulative-sum trick sorts in every call, as published.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bev.models  # noqa: F401 (registers the models)
from benchmarks.frames import test_frame
from benchmarks.harness import arguments, compare, report
from benchmarks.published import cumsum_trick
from bev.engine.config import load_config
from bev.ops.bev_pool import PoolPlan, _bev_pool_reference, bev_pool, plan_pool
from bev.registry import MODELS

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "bevdet" / "bevdet_r50_nusc.py"


def _cumsum_trick(depth: Tensor, features: Tensor, plan: PoolPlan) -> Tensor:
    return cumsum_trick(depth, features, plan.cell_of_point.flatten(), len(plan.offsets) - 1)


def _step(pool: Any, depth: Tensor, features: Tensor, plan: PoolPlan) -> tuple[Tensor, ...]:
    return torch.autograd.grad(pool(depth, features, plan).sum(), (depth, features))


def real_plan() -> PoolPlan:
    """Cells of BEVDet's frustum points in the rig of a real car."""
    config = load_config(CONFIG)
    view = MODELS.build(config.model.img_view_transformer)
    return view.plan(test_frame(config).rig)


def main() -> None:
    """Forward, forward + backward, and the sort."""
    args = arguments(__doc__ or "")
    runs = 5 if args.quick else 11
    plan = real_plan()
    (rows, bins), cells = plan.cell_of_point.shape, len(plan.offsets) - 1
    generator = torch.Generator().manual_seed(0)
    cases: list[dict[str, Any]] = []
    options: dict[str, Any] = {"runs": runs, "clock": time.process_time, "memory": True}
    for channels in (64, 80):
        depth = torch.rand(rows, bins, generator=generator).softmax(-1)
        features = torch.randn(rows, channels, generator=generator)
        exact = _bev_pool_reference(depth.double(), features.double(), plan)
        named = {"index_add": _bev_pool_reference, "cumulative-sum trick": _cumsum_trick}
        calls = {k: partial(f, depth, features, plan) for k, f in named.items()}
        forward = compare(f"forward C={channels}", partial(bev_pool, depth, features, plan), calls, **options)
        depth.requires_grad_(), features.requires_grad_()
        steps = {k: partial(_step, f, depth, features, plan) for k, f in named.items()}
        ours = partial(_step, bev_pool, depth, features, plan)
        step = compare(f"forward + backward C={channels}", ours, steps, **options)
        error = float((bev_pool(depth, features, plan).detach().double() - exact).abs().max())
        cases += [{**row, "max_abs_diff": error} for row in forward + step]
    inside = plan.cell_of_point < cells
    sort = {"forward of the same": lambda: bev_pool(depth, features, plan)}
    cases += compare("sort of one rig", lambda: plan_pool(plan.cell_of_point, inside, cells), sort, runs)
    report("lss_pool", args.threads, cases)


if __name__ == "__main__":
    main()
