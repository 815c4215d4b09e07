"""Classes and encoded boxes of anchors (SSD, RetinaNet, the RPN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from bev.models.heads.dense.criterion import Criterion, DenseTargets, at_least_one_each, gather_targets
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.losses.hard_negatives import hard_negative_weights
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class AnchorCriterion(Criterion):
    """``loss_cls`` over anchors that are not ignored, ``loss_bbox`` over the positives' encoded boxes.

    Args:
        assigner: anchors and boxes -> Assignment.
        loss_cls: over class indices with background: focal, or softmax where there is a column of background.
        loss_bbox: over (K, 4) encoded boxes, or over corners where ``decoded``.
        negatives_per_positive: with a softmax loss, only so many of the hardest negatives of an image count (SSD).
        decoded: compare decoded boxes.
        count_negatives: divide by positives and negatives, not by positives alone (RPN).
        sampler: has ``sample(assignment)``, which ignores all but some anchors (RPN); None for all.
    """

    def __init__(
        self,
        assigner: Any,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        negatives_per_positive: float | None = None,
        decoded: bool = False,
        count_negatives: bool = False,
        sampler: Any = None,
    ) -> None:
        super().__init__()
        self.assigner, self.loss_cls, self.loss_bbox = assigner, loss_cls, loss_bbox
        self.negatives_per_positive, self.decoded = negatives_per_positive, decoded
        self.count_negatives, self.sampler = count_negatives, sampler

    def targets(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> DenseTargets:
        """What the boxes teach."""
        assignments = [self.assigner.assign(predictions.priors, t.xyxy_px) for t in truth]
        if self.sampler is not None:
            assignments = [self.sampler.sample(assignment) for assignment in assignments]
        return gather_targets(assignments, truth, predictions.num_classes)

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox`` over one factor: the positives (an image without any counts as one), or all
        anchors that count (``count_negatives``)."""
        targets = self.targets(predictions, truth)
        factor = float(targets.label_weights.sum()) if self.count_negatives else at_least_one_each(targets)
        weights = targets.label_weights
        if self.negatives_per_positive is not None:
            negative = (targets.labels == predictions.num_classes) & (weights > 0)
            weights = hard_negative_weights(predictions.cls, targets.labels, negative, self.negatives_per_positive)
        image, prior = targets.positive
        if self.decoded:
            found, wanted = predictions.boxes_px[image, prior], targets.boxes_px
        else:
            found = predictions.box[image, prior]
            wanted = predictions.coder.encode(predictions.priors[prior], targets.boxes_px)
        cls, labels = predictions.cls.flatten(0, 1), targets.labels.flatten()
        return {
            "loss_cls": self.loss_cls(cls, labels, weights.flatten(), avg_factor=factor),
            "loss_bbox": self.loss_bbox(found, wanted, avg_factor=factor),
        }
