"""Objectness everywhere, classes and boxes at the positives (YOLOX, arXiv 2107.08430)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bev.models.heads.dense.criterion import Criterion, DenseTargets, gather_targets
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.losses import BinaryCrossEntropyLoss, IoULoss, L1Loss
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class ObjectnessCriterion(Criterion):
    """Class targets are the one-hot class times the IoU with the box; every term divides by the positives.

    Args:
        assigner: dynamic assigner: priors, boxes, labels, scores, decoded boxes -> Assignment.
        loss_bbox: over (K, 4) corners; None is 5 times 1 - IoU^2.
        loss_l1: over (K, 4) raw box values, as the published training has it in its last epochs; None leaves it out.
        with_l1: whether ``loss_l1`` counts now.
    """

    def __init__(
        self,
        assigner: Any,
        loss_bbox: nn.Module | None = None,
        loss_l1: nn.Module | None = None,
        with_l1: bool = False,
    ) -> None:
        super().__init__()
        self.assigner, self.with_l1 = assigner, with_l1
        self.loss_cls, self.loss_obj = BinaryCrossEntropyLoss(), BinaryCrossEntropyLoss()
        self.loss_bbox = loss_bbox or IoULoss(mode="square", eps=1e-16, loss_weight=5.0)
        self.loss_l1 = loss_l1 or L1Loss()

    @torch.no_grad()
    def targets(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> DenseTargets:
        """What the boxes teach."""
        assert predictions.quality is not None
        scores = (predictions.scores * predictions.quality.float().sigmoid()[..., None]).detach()
        priors, boxes = predictions.priors.moved(0.5), predictions.boxes_px.detach()  # cells' middles
        assignments = [
            self.assigner.assign(priors, t.xyxy_px, t.label, scores[i], boxes[i]) for i, t in enumerate(truth)
        ]
        return gather_targets(assignments, truth, predictions.num_classes)

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox``, ``loss_obj`` and, once ``with_l1`` is set, ``loss_l1``, each over the positives;
        the network must predict objectness."""
        assert predictions.quality is not None
        targets = self.targets(predictions, truth)
        image, prior = targets.positive
        count = max(len(image), 1)
        objectness = torch.zeros_like(predictions.quality)
        objectness[image, prior] = 1.0
        overlaps = torch.stack([a.overlap for a in targets.assignments])[image, prior]
        wanted = torch.zeros(len(image), predictions.num_classes, device=image.device)
        wanted.scatter_(1, targets.labels[image, prior][:, None], overlaps.float()[:, None])
        losses = {
            "loss_bbox": self.loss_bbox(predictions.boxes_px[image, prior], targets.boxes_px, avg_factor=count),
            "loss_obj": self.loss_obj(predictions.quality, objectness, avg_factor=count),
            "loss_cls": self.loss_cls(predictions.cls[image, prior], wanted, avg_factor=count),
        }
        if self.with_l1:
            raw = predictions.coder.encode(predictions.priors[prior], targets.boxes_px)
            losses["loss_l1"] = self.loss_l1(predictions.box[image, prior], raw, avg_factor=count)
        return losses
