"""Focal losses whose targets are qualities between 0 and 1, and the loss of distributed box sides."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bev.models.losses.cross_entropy import full_precision
from bev.models.losses.reduction import PairLoss, Reduction
from bev.registry import MODELS


@MODELS.register_module()
class QualityFocalLoss(PairLoss):
    """``|y - p|^beta BCE(p, y)`` (Generalized Focal Loss, NeurIPS 2020, equation 5); elements are (M, C).

    Targets (M, C) hold the quality (e.g. the IoU) in the column of the sample's class and 0 elsewhere.

    Args:
        beta: focusing exponent.
        activated: predictions are probabilities already, not logits (TOOD).
        loss_weight, reduction: as in :class:`PairLoss`.
    """

    def __init__(
        self, beta: float = 2.0, activated: bool = False, loss_weight: float = 1.0, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(loss_weight, reduction)
        self.beta, self.activated = beta, activated

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        prediction = full_precision(prediction)
        probability = prediction if self.activated else prediction.sigmoid()
        entropy = F.binary_cross_entropy if self.activated else F.binary_cross_entropy_with_logits
        return entropy(prediction, target, reduction="none") * (target - probability).abs().pow(self.beta)


@MODELS.register_module()
class VarifocalLoss(PairLoss):
    """Positives weighted by their quality, negatives focally (VarifocalNet, CVPR 2021, equation 2).

    Logits and targets (M, C) as of :class:`QualityFocalLoss`; elements are (M, C).

    As published, the weights take part in the gradient only through the negatives' probability.

    Args:
        alpha, gamma: factor and exponent of the negatives.
        iou_weighted: weigh positives by their quality; otherwise by one.
        loss_weight, reduction: as in :class:`PairLoss`.
    """

    def __init__(
        self,
        alpha: float = 0.75,
        gamma: float = 2.0,
        iou_weighted: bool = True,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(loss_weight, reduction)
        self.alpha, self.gamma, self.iou_weighted = alpha, gamma, iou_weighted

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        prediction = full_precision(prediction)
        positive = (target > 0).to(prediction.dtype)
        negative = self.alpha * (prediction.sigmoid() - target).abs().pow(self.gamma) * (1 - positive)
        weight = (target if self.iou_weighted else positive) * positive + negative
        return F.binary_cross_entropy_with_logits(prediction, target, reduction="none") * weight


@MODELS.register_module()
class DistributionFocalLoss(PairLoss):
    """Cross entropy with the two whole numbers around a target (Generalized Focal Loss, equation 6).

    Predictions are (M, n + 1) logits over 0 to n, targets (M,) numbers in [0, n); elements are (M,).
    """

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        prediction = full_precision(prediction)
        left = target.long()
        upper = target - left
        lower_loss = F.cross_entropy(prediction, left, reduction="none")
        upper_loss = F.cross_entropy(prediction, left + 1, reduction="none")
        return lower_loss * (1 - upper) + upper_loss * upper
