"""Operators: the fast CPU form of each against its plain form in torch.

Attention has BEVFormer's and Deformable DETR's sizes; boxes are as many as a detector proposes; points as many as a
lidar sweep has. The baseline of the reductions to voxels is ``unique(dim=0)`` with ``scatter_reduce``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import arguments, compare, report
from bev.ops import carafe as carafe_module
from bev.ops import deformable_attention as attention
from bev.ops import focal_loss as focal
from bev.ops import nms as suppression
from bev.ops import roi_align as roi
from bev.ops import rotated_iou as rotated
from bev.ops.voxelize import dynamic_scatter

Rows = list[dict[str, Any]]


Form = Callable[..., Tensor]


def _both(case: str, ours: Form, plain: Form, leaves: list[Tensor], runs: int) -> Rows:
    """Forward, and forward with backward, of two forms of the same function of some leaves."""
    error = float((ours(*leaves) - plain(*leaves)).abs().max())
    rows = compare(f"{case}, forward", lambda: ours(*leaves), {"plain": lambda: plain(*leaves)}, runs)
    for leaf in leaves:
        leaf.requires_grad_()
    steps = [lambda f=f: torch.autograd.grad(f(*leaves).sum(), leaves) for f in (ours, plain)]
    rows += compare(f"{case}, + backward", steps[0], {"plain": steps[1]}, runs)
    return [{**row, "max_abs_diff": error} for row in rows]


def _attention(runs: int, quick: bool) -> Rows:
    encoder = [(s // 2, s // 2) for s in (100, 50, 26, 14)] if quick else [(100, 100), (50, 50), (25, 25), (13, 13)]
    sizes = {
        "attention 2x2500, 50x50, 4 points": (2, 2500, [(50, 50)], 4),
        "attention 6x600, 15x25, 8 points": (6, 600, [(15, 25)], 8),
        f"attention 1x{sum(h * w for h, w in encoder)}, 4 levels": (1, sum(h * w for h, w in encoder), encoder, 4),
    }
    rows: Rows = []
    for case, (batch, queries, shapes, points) in sizes.items():
        value = torch.randn(batch, sum(h * w for h, w in shapes), 8, 32)
        locations = torch.rand(batch, queries, 8, len(shapes), points, 2)
        weights = torch.rand(batch, queries, 8, len(shapes), points)
        heights, widths = [h for h, _ in shapes], [w for _, w in shapes]

        def plain(v: Tensor, x: Tensor, w: Tensor) -> Tensor:
            return attention._attention_reference(v, heights, widths, x, w)

        def ours(v: Tensor, x: Tensor, w: Tensor) -> Tensor:
            return attention.multi_scale_deformable_attention(v, shapes, x, w)

        rows += _both(case, ours, plain, [value, locations, weights], runs)
    return rows


def _suppression(runs: int) -> Rows:
    corner = torch.rand(2000, 2) * 1000
    boxes, score = torch.cat([corner, corner + 20 + 80 * torch.rand(2000, 2)], 1), torch.rand(2000)
    plain = {"plain": lambda: suppression._nms_reference(boxes, score, None, 0.5)}
    rows = compare("nms of 2000", lambda: suppression.nms(boxes, score, 0.5), plain, runs)
    turned = torch.cat([torch.rand(500, 2) * 100, torch.rand(500, 2) * 4 + 1, torch.rand(500, 1) * 6], 1)
    dense = {"every pair": lambda: rotated._intersection(turned[:, None], turned[None])}
    return rows + compare("rotated overlap of 500 x 500", lambda: rotated.box_iou_rotated(turned, turned), dense, runs)


def _regions(runs: int) -> Rows:
    maps, corner = torch.randn(1, 256, 50, 76), torch.rand(200, 2) * torch.tensor([900.0, 500.0])
    rois = torch.cat([torch.zeros(200, 1), corner, corner + 30 + 250 * torch.rand(200, 2)], 1)
    low, high = rois[:, 1:3] / 16 - 0.5, rois[:, 3:] / 16 - 0.5
    frames = torch.cat([(low + high) / 2, high - low, torch.tensor([[1.0, 0.0]]).expand(200, 2)], 1)
    picture = rois[:, 0].long()
    return _both(
        "roi_align 200 x 7 x 7, 256 channels",
        lambda x: roi.roi_align(x, rois, 7, 1 / 16, 2),
        lambda x: roi._pool_reference(x, picture, frames, 7, 7, 2),
        [maps],
        runs,
    )


def _points(runs: int) -> Rows:
    cell, features = torch.randint(0, 200, (34_000, 3)), torch.randn(34_000, 64)
    cell[:, 0] = 0

    def plain(reduction: str) -> Tensor:
        voxels, inverse = cell.unique(dim=0, return_inverse=True)
        out, index = features.new_zeros(len(voxels), 64), inverse[:, None].expand(-1, 64)
        return out.scatter_reduce(0, index, features, {"max": "amax"}.get(reduction, reduction), include_self=False)

    rows: Rows = []
    for kind in ("max", "mean"):
        named = {"unique + scatter_reduce": lambda: plain(kind)}
        rows += compare(f"scatter to voxels, {kind}", lambda: dynamic_scatter(features, cell, kind), named, runs)
    return rows


def _rest(runs: int) -> Rows:
    logits, label = torch.randn(20_000, 80), torch.randint(0, 81, (20_000,))
    rows = _both(
        "focal loss 20000 x 80",
        lambda x: focal.sigmoid_focal_loss(x, label),
        lambda x: focal._focal_loss_reference(x, label, 2.0, 0.25),
        [logits],
        runs,
    )
    maps, masks = torch.randn(1, 64, 50, 76), torch.rand(1, 25, 100, 152).softmax(1)
    return rows + _both(
        "CARAFE 64 channels, 50 x 76, twice",
        lambda x, m: carafe_module.carafe(x, m, 5, 2),
        lambda x, m: carafe_module._carafe_reference(x, m, 5, 2),
        [maps, masks],
        runs,
    )


def main() -> None:
    """All operators in turn."""
    args = arguments(__doc__ or "")
    runs = 5 if args.quick else 11
    torch.manual_seed(0)
    cases = _attention(runs, args.quick) + _suppression(runs) + _regions(runs) + _points(runs) + _rest(runs)
    report("operators", args.threads, cases)


if __name__ == "__main__":
    main()
