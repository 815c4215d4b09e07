"""Online hard example mining: only what is most wrong teaches (Shrivastava et al., CVPR 2016, arXiv 1604.03540)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bev.models.losses.reduction import reduce_loss
from bev.ops.nms import nms
from bev.registry import MODELS


@torch.no_grad()
def hardest_regions(loss: Tensor, boxes: Tensor, count: int, nms_iou: float = 0.7) -> Tensor:
    """The regions of largest loss, of those that overlap the worst one alone (section 4.2: NMS with the loss as score).

    Args:
        loss: (M,) of each region.
        boxes: (M, 4) px.
        count: regions that are kept at most.
        nms_iou: regions that overlap a worse one by more than this repeat its loss and are left out.

    Returns:
        (K,) int64, by falling loss, K <= ``count``.
    """
    return nms(boxes, loss, nms_iou, max_num=count)


@MODELS.register_module()
class OHEMLoss(nn.Module):
    """Another loss over its hardest rows alone.

    Args:
        loss: has ``elements``, ``loss_weight`` and ``reduction`` (cross entropies, focal, box losses).
        keep: rows that count: a whole number of them, or a share below 1.

    Raises:
        ValueError: nothing would be kept.
    """

    def __init__(self, loss: Any, keep: float = 0.25) -> None:
        super().__init__()
        if keep <= 0 or (keep >= 1 and keep != int(keep)):
            raise ValueError(f"OHEMLoss keeps a number of rows or a share below 1, not {keep}")
        self.loss, self.keep, self.loss_weight = loss, keep, loss.loss_weight

    def elements(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """(M,) losses of the rows, 0 where a row does not count; ``weight`` (M,) decides with."""
        rows = self.loss.elements(prediction, target)
        rows = rows.flatten(1).sum(1) if rows.ndim > 1 else rows
        if weight is not None:
            rows = rows * weight
        count = min(len(rows), int(self.keep) if self.keep >= 1 else max(1, round(self.keep * len(rows))))
        hardest = torch.zeros_like(rows).index_fill(0, rows.detach().topk(count).indices, 1.0)
        return rows * hardest

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
    ) -> Tensor:
        """As the wrapped loss; a mean is over the rows that count.

        Args:
            weight: (M,), 0 for rows that must not count.
            avg_factor: what the sum is divided by instead.
        """
        rows = self.elements(prediction, target, weight)
        if avg_factor is None and self.loss.reduction == "mean":
            avg_factor = float(max(int((rows > 0).sum()), 1))
        return self.loss_weight * reduce_loss(rows, None, self.loss.reduction, avg_factor)
