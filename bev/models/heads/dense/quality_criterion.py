"""Soft class targets from an assigner's own quality (TOOD, PP-YOLOE, RTMDet)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bev.models.assigners import Assignment
from bev.models.heads.dense.criterion import Criterion, DenseTargets, gather_targets
from bev.models.heads.dense.predictions import DensePredictions
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class QualityCriterion(Criterion):
    """Class scores learn the quality of their box; boxes weigh by it; both divide by the sum of qualities.

    Args:
        assigner: aligned assigner: priors, boxes, labels, scores, decoded boxes -> Assignment with a metric.
        loss_cls: over (B * P, C) qualities: quality focal or varifocal.
        loss_bbox: over (K, 4) corners.
        assign_logits: the assigner wants logits (RTMDet), not probabilities.
        normalise: scale each box's metrics so that the best equals its best IoU (TOOD, equation 5).
        loss_dfl: over distributed sides, where the coder has them (PP-YOLOE).
    """

    def __init__(
        self,
        assigner: Any,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        assign_logits: bool = False,
        normalise: bool = True,
        loss_dfl: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.assigner, self.loss_cls, self.loss_bbox = assigner, loss_cls, loss_bbox
        self.assign_logits, self.normalise, self.loss_dfl = assign_logits, normalise, loss_dfl

    @torch.no_grad()
    def targets(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> DenseTargets:
        """What the boxes teach; assignments carry the qualities as ``metric``."""
        scores = (predictions.cls if self.assign_logits else predictions.scores).detach()
        boxes = predictions.boxes_px.detach()
        assignments = [
            self.assigner.assign(predictions.priors, t.xyxy_px, t.label, scores[i], boxes[i])
            for i, t in enumerate(truth)
        ]
        if self.normalise:
            assignments = [normalised(a, len(t)) for a, t in zip(assignments, truth)]
        return gather_targets(assignments, truth, predictions.num_classes)

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox`` and perhaps ``loss_dfl``, each over the sum of the qualities, at least 1."""
        targets = self.targets(predictions, truth)
        image, prior = targets.positive
        metric = torch.stack([a.metric for a in targets.assignments])[image, prior]  # type: ignore[misc]
        wanted = torch.zeros_like(predictions.cls)
        wanted[image, prior, targets.labels[image, prior]] = metric.to(wanted.dtype)
        total = metric.sum().clamp(min=1.0)
        cls = self.loss_cls(predictions.cls.flatten(0, 1), wanted.flatten(0, 1), avg_factor=total)
        boxes = self.loss_bbox(predictions.boxes_px[image, prior], targets.boxes_px, metric, avg_factor=total)
        losses = {"loss_cls": cls, "loss_bbox": boxes}
        if self.loss_dfl is not None:
            losses["loss_dfl"] = distribution_loss(self.loss_dfl, predictions, targets, metric, total)
        return losses


def distribution_loss(
    loss: nn.Module, predictions: DensePredictions, targets: DenseTargets, weight: Tensor, total: Tensor
) -> Tensor:
    """Loss of the positives' four side distributions, each side weighted by (K,) ``weight`` over 4 ``total``."""
    image, prior = targets.positive
    wanted = predictions.coder.encode(predictions.priors[prior], targets.boxes_px).flatten()
    logits = predictions.box[image, prior].unflatten(-1, (4, -1)).flatten(0, 1)
    result: Tensor = loss(logits, wanted, weight.repeat_interleave(4), avg_factor=4.0 * total)
    return result


def normalised(assignment: Assignment, boxes: int) -> Assignment:
    """Metrics of each box's priors divided by their largest and multiplied by their largest IoU."""
    positive = assignment.positive
    assert assignment.metric is not None
    box, metric = assignment.box[positive], assignment.metric[positive]
    zeros = metric.new_zeros(boxes)
    best = zeros.scatter_reduce(0, box, metric, "amax")
    best_iou = zeros.scatter_reduce(0, box, assignment.overlap[positive], "amax")
    scaled = metric / (best[box] + 1e-7) * best_iou[box]
    return replace(assignment, metric=torch.zeros_like(assignment.metric).index_copy(0, positive, scaled))
