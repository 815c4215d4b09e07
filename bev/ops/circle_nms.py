"""Non-maximum suppression by centre distance (CenterPoint, arXiv 2006.11275)."""

from __future__ import annotations

import torch
from torch import Tensor


def circle_nms(center_m: Tensor, score: Tensor, group: Tensor, radius_m: Tensor) -> Tensor:
    """Greedy suppression of lower-scored neighbours within a radius, inside each group.

    Args:
        center_m: (M, 2) x, y.
        score: (M,).
        group: (M,) int64, usually the class; boxes of different groups do not touch each other.
        radius_m: (M,) suppression radius of each box; only the kept box's radius counts.

    Returns:
        (K,) int64 indices of the kept boxes, by falling score (ties: lower index first).
    """
    return _circle_nms(center_m, score, group, radius_m)


@torch.library.custom_op("bev::circle_nms", mutates_args=())
def _circle_nms(center_m: Tensor, score: Tensor, group: Tensor, radius_m: Tensor) -> Tensor:
    order = torch.sort(score, descending=True, stable=True).indices
    near = torch.cdist(center_m[order].float(), center_m[order].float()) <= radius_m[order, None]
    suppresses = (near & (group[order, None] == group[None, order])).cpu().numpy()
    keep, alive = [], [True] * len(order)
    for i in range(len(order)):
        if alive[i]:
            keep.append(i)
            for j in suppresses[i, i + 1 :].nonzero()[0]:
                alive[i + 1 + j] = False
    return order[torch.tensor(keep, dtype=torch.int64, device=order.device)]


@_circle_nms.register_fake
def _(center_m: Tensor, score: Tensor, group: Tensor, radius_m: Tensor) -> Tensor:
    return score.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)
