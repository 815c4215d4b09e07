"""One-to-one matching of predictions and ground truth (DETR, ECCV 2020; costs of DETR3D, CoRL 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bev.geometry.boxes2d import pairwise_overlap, to_center_size
from bev.registry import MODELS

# What a prediction that is not finite costs: matching must not crash, the loss will say what is wrong.
_NON_FINITE_COST = 1e6


def focal_cost(logits: Tensor, label: Tensor, alpha: float = 0.25, gamma: float = 2.0, eps: float = 1e-12) -> Tensor:
    """(Q, num_classes) logits, (M,) classes -> (Q, M) focal loss as a positive minus that as a negative."""
    probability = logits.sigmoid()
    negative = -(1 - probability + eps).log() * (1 - alpha) * probability.pow(gamma)
    positive = -(probability + eps).log() * alpha * (1 - probability).pow(gamma)
    return positive[:, label] - negative[:, label]


@MODELS.register_module()
class HungarianAssigner3D:
    """Least total cost of class and box code.

    Args:
        cls_weight: weight of the focal cost.
        reg_weight: weight of the L1 distance between codes.
        code_size: leading entries of the code that are compared; 8 leaves the velocity out.
        alpha, gamma: of the focal cost.
        code_weights: weight of each entry's distance, all equal by default (StreamPETR: x and y twice).
    """

    def __init__(
        self,
        cls_weight: float = 2.0,
        reg_weight: float = 0.25,
        code_size: int = 8,
        alpha: float = 0.25,
        gamma: float = 2.0,
        code_weights: Sequence[float] | None = None,
    ) -> None:
        self.code_weights = None if code_weights is None else tuple(code_weights)[:code_size]
        self.cls_weight, self.reg_weight, self.code_size = cls_weight, reg_weight, code_size
        self.alpha, self.gamma = alpha, gamma

    @torch.no_grad()
    def cost(self, logits: Tensor, code: Tensor, label: Tensor, target: Tensor) -> Tensor:
        """(Q, M) float32 cost of every pair; arguments as of :meth:`assign`."""
        ours, theirs = (x[:, : self.code_size].float() for x in (code, target))
        if self.code_weights is not None:
            ours, theirs = (x * x.new_tensor(self.code_weights) for x in (ours, theirs))
        distance = torch.cdist(ours, theirs, p=1)
        classes = focal_cost(logits.float(), label, self.alpha, self.gamma)
        return self.cls_weight * classes + self.reg_weight * distance

    def assign(self, logits: Tensor, code: Tensor, label: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Match Q predictions with M boxes.

        Args:
            logits: (Q, num_classes).
            code: (Q, K) predicted box codes.
            label: (M,) int64.
            target: (M, K) box codes of the ground truth; entries beyond ``code_size`` may be NaN.

        Returns:
            query, box: (min(Q, M),) int64 each, pairs in rising order of the query.
        """
        return least_cost_pairs(self.cost(logits, code, label, target))


@MODELS.register_module()
class HungarianAssigner2D:
    """Least total cost of class and image box, one prediction a box (DETR, ECCV 2020; one-to-one dense heads).

    Args:
        cls_weight, l1_weight, giou_weight: weights of the class cost, of the L1 distance of centre and size in shares
            of the image, and of -GIoU.
        class_cost: ``"focal"`` for sigmoid scores, ``"softmax"`` for minus the probability; there a last column of
            background is expected.
    """

    def __init__(
        self,
        cls_weight: float = 2.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        class_cost: Literal["focal", "softmax"] = "focal",
    ) -> None:
        if class_cost not in ("focal", "softmax"):
            raise ValueError(f"HungarianAssigner2D class_cost {class_cost!r} is neither 'focal' nor 'softmax'")
        self.cls_weight, self.l1_weight, self.giou_weight = cls_weight, l1_weight, giou_weight
        self.class_cost = class_cost

    @torch.no_grad()
    def cost(self, logits: Tensor, predicted: Tensor, label: Tensor, boxes: Tensor, size_px: tuple[int, int]) -> Tensor:
        """(Q, M) float32 cost of every pair; arguments as of :meth:`assign`."""
        logits = logits.float()
        classes = focal_cost(logits, label) if self.class_cost == "focal" else -logits.softmax(-1)[:, label]
        scale = boxes.new_tensor([size_px[1], size_px[0]] * 2)
        distance = torch.cdist(to_center_size(predicted) / scale, to_center_size(boxes) / scale, p=1)
        hull = pairwise_overlap(predicted, boxes, "giou")
        return self.cls_weight * classes + self.l1_weight * distance - self.giou_weight * hull

    def assign(
        self, logits: Tensor, predicted: Tensor, label: Tensor, boxes: Tensor, size_px: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Match Q predictions with M boxes.

        Args:
            logits: (Q, C).
            predicted: (Q, 4) px corners.
            label: (M,) int64.
            boxes: (M, 4) px corners.
            size_px: (H, W) of the image.

        Returns:
            query, box: (min(Q, M),) int64 each, pairs in rising order of the query.
        """
        return least_cost_pairs(self.cost(logits, predicted, label, boxes, size_px))


def least_cost_pairs(cost: Tensor) -> tuple[Tensor, Tensor]:
    """(Q, M) -> rows and columns (min(Q, M),) int64 of the cheapest one-to-one matching, in rising order of the row."""
    finite = cost.nan_to_num(_NON_FINITE_COST, _NON_FINITE_COST, -_NON_FINITE_COST)
    rows, columns = linear_sum_assignment(finite.cpu().numpy())
    return torch.as_tensor(rows, device=cost.device), torch.as_tensor(columns, device=cost.device)
