"""Lift-splat pooling: ours against the published cumulative-sum trick and a plain index_add.

BEVDet's geometry: six cameras, 59 depth bins, 16 x 44 feature pixels, 128 x 128 cells. Ours sorts once a rig (its own
row); the cumulative-sum trick sorts in every call, as published.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import arguments, compare, report
from bev.ops.bev_pool import PoolPlan, _bev_pool_reference, bev_pool, plan_pool


def _cumsum_trick(depth: Tensor, features: Tensor, plan: PoolPlan) -> Tensor:
    """LSS's own form, restated: sort the volume by cell, cumulative sum, difference at the cells' ends."""
    cells = len(plan.offsets) - 1
    volume = (depth[:, :, None] * features[:, None]).flatten(0, 1)
    cell = plan.cell_of_point.flatten()
    kept = cell < cells
    order = torch.argsort(cell[kept])
    cell, volume = cell[kept][order], volume[kept][order].cumsum(0)
    last = torch.ones_like(cell, dtype=torch.bool)
    last[:-1] = cell[1:] != cell[:-1]
    sums = volume[last]
    sums = torch.cat([sums[:1], sums[1:] - sums[:-1]])
    return torch.zeros(cells, features.shape[1]).index_put((cell[last],), sums)


def _step(pool: Any, depth: Tensor, features: Tensor, plan: PoolPlan) -> tuple[Tensor, ...]:
    return torch.autograd.grad(pool(depth, features, plan).sum(), (depth, features))


def main() -> None:
    """Forward, forward + backward, and the sort."""
    args = arguments(__doc__ or "")
    runs = 5 if args.quick else 11
    rows, bins, cells = 6 * 16 * 44, 59, 128 * 128
    generator = torch.Generator().manual_seed(0)
    cell = torch.randint(0, cells, (rows, bins), generator=generator)
    inside = torch.rand(rows, bins, generator=generator) < 0.56
    plan = plan_pool(cell, inside, cells)
    cases: list[dict[str, Any]] = []
    for channels in (64, 80):
        depth = torch.rand(rows, bins, generator=generator).softmax(-1)
        features = torch.randn(rows, channels, generator=generator)
        exact = _bev_pool_reference(depth.double(), features.double(), plan)
        named = {"index_add": _bev_pool_reference, "cumulative-sum trick": _cumsum_trick}
        calls = {k: (lambda f=f: f(depth, features, plan)) for k, f in named.items()}
        forward = compare(f"forward C={channels}", lambda: bev_pool(depth, features, plan), calls, runs)
        depth.requires_grad_(), features.requires_grad_()
        calls = {k: (lambda f=f: _step(f, depth, features, plan)) for k, f in named.items()}
        step = compare(f"forward + backward C={channels}", lambda: _step(bev_pool, depth, features, plan), calls, runs)
        error = float((bev_pool(depth, features, plan).detach().double() - exact).abs().max())
        cases += [{**row, "max_abs_diff": error} for row in forward + step]
    sort = {"forward of the same": lambda: bev_pool(depth, features, plan)}
    cases += compare("sort of one rig", lambda: plan_pool(cell, inside, cells), sort, runs)
    report("lss_pool", args.threads, cases)


if __name__ == "__main__":
    main()
