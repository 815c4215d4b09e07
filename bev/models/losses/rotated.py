"""Loss of rotated boxes by their overlap."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from bev.models.losses.reduction import PairLoss, Reduction
from bev.ops.rotated_iou import box_iou_rotated
from bev.registry import MODELS


@MODELS.register_module()
class RotatedIoULoss(PairLoss):
    """A falling function of the SkewIoU, the overlap of turned rectangles (RRPN, arXiv 1703.01086).

    Predictions and targets are (M, 5): centre x, y, width, height, px, and the angle, rad; elements are (M,). The area
    that two boxes share is the exact one in closed form, so the gradient is exact too; boxes that do not meet have none
    (add an L1 term for those).

    Args:
        mode: ``log`` -ln(IoU); ``linear`` 1 - IoU; ``square`` 1 - IoU^2.
        eps: least IoU.
        loss_weight, reduction: as in :class:`PairLoss`.
    """

    def __init__(
        self,
        mode: Literal["log", "linear", "square"] = "linear",
        eps: float = 1e-6,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(loss_weight, reduction)
        if mode not in ("log", "linear", "square"):
            raise ValueError(f"RotatedIoULoss mode {mode!r} is not one of log, linear, square")
        self.mode, self.eps = mode, eps

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        iou = box_iou_rotated(prediction, target, aligned=True).clamp(min=self.eps)
        return {"log": lambda: -iou.log(), "linear": lambda: 1 - iou, "square": lambda: 1 - iou.square()}[self.mode]()
