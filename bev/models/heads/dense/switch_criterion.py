"""One criterion at first, another later (TOOD begins with a static assigner)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bev.models.heads.dense.criterion import Criterion
from bev.models.heads.dense.predictions import DensePredictions
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class SwitchCriterion(Criterion):
    """``first`` for the first ``epochs`` of training, then ``later``.

    Training tells it the epoch through :attr:`epoch` (0 where nobody does).

    Args:
        first, later: criteria.
        epochs: how long ``first`` holds.
    """

    def __init__(self, first: Criterion, later: Criterion, epochs: int) -> None:
        super().__init__()
        self.first, self.later, self.epochs, self.epoch = first, later, epochs, 0

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """The losses of the criterion that holds in this epoch."""
        losses: dict[str, Tensor] = (self.first if self.epoch < self.epochs else self.later)(predictions, truth)
        return losses
