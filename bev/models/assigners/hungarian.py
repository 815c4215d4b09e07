"""One-to-one matching of predictions and ground truth (DETR, ECCV 2020; costs of DETR3D, CoRL 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

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
        cost = self.cost(logits, code, label, target).nan_to_num(_NON_FINITE_COST, _NON_FINITE_COST, -_NON_FINITE_COST)
        query, box = linear_sum_assignment(cost.cpu().numpy())
        return torch.as_tensor(query, device=code.device), torch.as_tensor(box, device=code.device)
