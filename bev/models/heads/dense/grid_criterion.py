"""One responsible anchor in one cell a box (YOLOv3, arXiv 1804.02767)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bev.models.assigners import BACKGROUND
from bev.models.heads.dense.criterion import Criterion, DenseTargets, gather_targets
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.losses import BinaryCrossEntropyLoss, MSELoss
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class GridCriterion(Criterion):
    """Cross entropies of classes, objectness and the place in the cell, squares of the log sizes; sums, not means.

    Args:
        assigner: anchors and boxes -> Assignment; ignored anchors have no objectness target.
        weight_cls, weight_obj, weight_xy, weight_wh: of the terms.
    """

    def __init__(
        self,
        assigner: Any,
        weight_cls: float = 1.0,
        weight_obj: float = 1.0,
        weight_xy: float = 2.0,
        weight_wh: float = 2.0,
    ) -> None:
        super().__init__()
        self.assigner = assigner
        self.loss_cls = BinaryCrossEntropyLoss(weight_cls, "sum")
        self.loss_obj = BinaryCrossEntropyLoss(weight_obj, "sum")
        self.loss_xy = BinaryCrossEntropyLoss(weight_xy, "sum")
        self.loss_wh = MSELoss(weight_wh, "sum")

    def targets(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> DenseTargets:
        """What the boxes teach."""
        assignments = [self.assigner.assign(predictions.priors, t.xyxy_px) for t in truth]
        return gather_targets(assignments, truth, predictions.num_classes)

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_obj``, ``loss_xy``, ``loss_wh``, sums over the batch; the network must
        predict objectness."""
        assert predictions.quality is not None
        targets = self.targets(predictions, truth)
        image, prior = targets.positive
        values, cls = predictions.box[image, prior], predictions.cls[image, prior]
        place, log_size = predictions.coder.encode(predictions.priors[prior], targets.boxes_px).split(2, -1)
        wanted = torch.zeros_like(cls).scatter_(1, targets.labels[image, prior][:, None], 1.0)
        objectness = torch.zeros_like(predictions.quality)
        objectness[image, prior] = 1.0
        counts = torch.stack([a.box >= BACKGROUND for a in targets.assignments]).to(objectness.dtype)
        return {
            "loss_cls": self.loss_cls(cls, wanted),
            "loss_obj": self.loss_obj(predictions.quality, objectness, counts),
            "loss_xy": self.loss_xy(values[:, :2], place),
            "loss_wh": self.loss_wh(values[:, 2:], log_size),
        }
