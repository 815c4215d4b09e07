"""Classes, overlapping boxes and how central a prior is (FCOS, ATSS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from bev.geometry.boxes2d import overlap
from bev.models.heads.dense.criterion import Criterion, DenseTargets, at_least_one_each, centerness, gather_targets
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.losses import BinaryCrossEntropyLoss
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class CenternessCriterion(Criterion):
    """``loss_cls`` over all priors, ``loss_bbox`` over decoded boxes weighted by centre-ness, ``loss_quality``.

    Args:
        assigner: priors and boxes -> Assignment.
        loss_cls: over class indices with background.
        loss_bbox: over (K, 4) corners.
        loss_quality: over the logits of centre-ness; used where the network predicts it.
        one_each: an image without a positive counts as one positive (ATSS); otherwise the batch has at least one.
        least_centerness: least sum of centre-ness that boxes are divided by: 1 (ATSS) or 1e-6 (FCOS).
        quality: what the third map learns: ``centerness``, or the ``iou`` of the decoded box with its target (IoU-aware
            branch, arXiv 1912.05992).
    """

    def __init__(
        self,
        assigner: Any,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        loss_quality: nn.Module | None = None,
        one_each: bool = True,
        least_centerness: float = 1.0,
        quality: Literal["centerness", "iou"] = "centerness",
    ) -> None:
        super().__init__()
        if quality not in ("centerness", "iou"):
            raise ValueError(f"CenternessCriterion quality {quality!r} is neither 'centerness' nor 'iou'")
        self.quality = quality
        self.assigner, self.loss_cls, self.loss_bbox = assigner, loss_cls, loss_bbox
        self.loss_quality = loss_quality or BinaryCrossEntropyLoss()
        self.one_each, self.least_centerness = one_each, least_centerness

    def targets(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> DenseTargets:
        """What the boxes teach."""
        assignments = [self.assigner.assign(predictions.priors, t.xyxy_px) for t in truth]
        return gather_targets(assignments, truth, predictions.num_classes)

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_quality`` over the positives, ``loss_bbox`` over the sum of their centre-ness;
        ``loss_quality`` only where the network predicts it."""
        targets = self.targets(predictions, truth)
        count = at_least_one_each(targets) if self.one_each else max(sum(targets.per_image), 1)
        image, prior = targets.positive
        central = centerness(predictions.priors.center_px[prior], targets.boxes_px)
        cls, labels = predictions.cls.flatten(0, 1), targets.labels.flatten()
        boxes = predictions.boxes_px[image, prior]
        share = central.sum().clamp(min=self.least_centerness)
        losses = {
            "loss_cls": self.loss_cls(cls, labels, targets.label_weights.flatten(), avg_factor=count),
            "loss_bbox": self.loss_bbox(boxes, targets.boxes_px, central, avg_factor=share),
        }
        if predictions.quality is not None:
            wanted = central if self.quality == "centerness" else overlap(boxes.detach(), targets.boxes_px)
            losses["loss_quality"] = self.loss_quality(predictions.quality[image, prior], wanted, avg_factor=count)
        return losses
