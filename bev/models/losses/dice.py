"""Overlap of soft masks as a loss."""

from __future__ import annotations

from torch import Tensor

from bev.models.losses.cross_entropy import full_precision
from bev.models.losses.reduction import PairLoss, Reduction
from bev.registry import MODELS


@MODELS.register_module()
class DiceLoss(PairLoss):
    """``1 - 2 sum(p t) / (sum(p^2) + sum(t^2))`` of each row (V-Net, 3DV 2016, arXiv 1606.04797, equation 1).

    Predictions (M, ...) are logits, targets of the same shape lie in 0 to 1; elements are (M,).

    Args:
        squared: squares in the denominator, as in the paper; False sums the values themselves.
        activated: predictions are probabilities already.
        eps: added to numerator and denominator: two empty masks cost nothing.
        loss_weight, reduction: as in :class:`PairLoss`.
    """

    def __init__(
        self,
        squared: bool = True,
        activated: bool = False,
        eps: float = 1e-3,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(loss_weight, reduction)
        self.squared, self.activated, self.eps = squared, activated, eps

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        prediction = full_precision(prediction)
        found = (prediction if self.activated else prediction.sigmoid()).flatten(1)
        wanted = target.flatten(1).to(found.dtype)
        sizes = found.square() + wanted.square() if self.squared else found + wanted
        return 1 - (2 * (found * wanted).sum(1) + self.eps) / (sizes.sum(1) + self.eps)
