"""Joint quality and distributed sides (Generalized Focal Loss, NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bev.geometry.boxes2d import overlap
from bev.models.heads.dense.criterion import Criterion, DenseTargets, at_least_one_each, gather_targets
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.heads.dense.quality_criterion import distribution_loss
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class DistributionCriterion(Criterion):
    """The class score of a positive learns the IoU of its box; boxes weigh by their score.

    Args:
        assigner: anchors and boxes -> Assignment.
        dynamic: the assigner also looks at labels, scores and decoded boxes (PicoDet's SimOTA).
        loss_cls: over (B * P, C) qualities: quality focal or varifocal.
        loss_bbox: over (K, 4) corners.
        loss_dfl: over (K, n + 1) logits of a side.
    """

    def __init__(
        self, assigner: Any, loss_cls: nn.Module, loss_bbox: nn.Module, loss_dfl: nn.Module, dynamic: bool = False
    ) -> None:
        super().__init__()
        self.dynamic = dynamic
        self.assigner, self.loss_cls, self.loss_bbox, self.loss_dfl = assigner, loss_cls, loss_bbox, loss_dfl

    @torch.no_grad()
    def targets(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> DenseTargets:
        """What the boxes teach."""
        seen = zip(predictions.scores.detach(), predictions.boxes_px.detach())
        assignments = [
            self.assigner.assign(predictions.priors, t.xyxy_px, *((t.label, *image) if self.dynamic else ()))
            for t, image in zip(truth, seen)
        ]
        return gather_targets(assignments, truth, predictions.num_classes)

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """``loss_cls`` over the positives (an image without any counts as one); ``loss_bbox`` and ``loss_dfl`` over the
        sum of their best scores, at least 1."""
        targets = self.targets(predictions, truth)
        image, prior = targets.positive
        boxes = predictions.boxes_px[image, prior]
        quality = torch.zeros_like(predictions.cls)
        iou = overlap(boxes.detach(), targets.boxes_px)
        quality[image, prior, targets.labels[image, prior]] = iou.to(quality.dtype)
        weight = predictions.scores.detach()[image, prior].amax(-1)
        total = weight.sum().clamp(min=1.0)
        cls, label_weights = predictions.cls.flatten(0, 1), targets.label_weights.flatten()
        count = at_least_one_each(targets)
        return {
            "loss_cls": self.loss_cls(cls, quality.flatten(0, 1), label_weights, avg_factor=count),
            "loss_bbox": self.loss_bbox(boxes, targets.boxes_px, weight, avg_factor=total),
            "loss_dfl": distribution_loss(self.loss_dfl, predictions, targets, weight, total),
        }
