"""Boxes of anchors of like shape, objectness by level (YOLOv5, YOLOv7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bev.models.assigners import RatioAssigner, SimOTAAssigner
from bev.models.heads.dense.criterion import Criterion
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.losses import BinaryCrossEntropyLoss, CIoULoss
from bev.registry import MODELS
from bev.structures import Boxes2D

Pairs = tuple[Tensor, Tensor, Tensor, Tensor]
"""Image and prior (K,) int64 of every positive, its box (K, 4) px and label (K,) int64."""


@torch.no_grad()
def dynamic_pairs(
    assigner: SimOTAAssigner, predictions: DensePredictions, truth: Sequence[Boxes2D]
) -> list[tuple[Tensor, Tensor]]:
    """Prior and box (K,) int64 each of every picture's positives, by class score times objectness and decoded boxes."""
    assert predictions.quality is not None
    scores = predictions.scores * predictions.quality.float().sigmoid()[..., None]
    found = []
    for number, t in enumerate(truth):
        decoded = predictions.boxes_px[number].detach()
        assignment = assigner.assign(predictions.priors, t.xyxy_px, t.label, scores[number].detach(), decoded)
        found.append((assignment.positive, assignment.box[assignment.positive]))
    return found


@MODELS.register_module()
class RatioCriterion(Criterion):
    """CIoU of the boxes, cross entropies of classes and objectness; the objectness of a positive learns its box's CIoU.

    Objectness is averaged over each level's anchors, so that the many of the finest do not drown the others, and the
    levels are weighed.

    Args:
        assigner: which anchors answer for which boxes: a :class:`RatioAssigner`, by shape alone (YOLOv5; an anchor of
            several boxes learns the best fitting one's CIoU), or a dynamic one that sees the predictions (YOLOv7).
        weight_bbox, weight_obj, weight_cls: of the terms, a picture (published: .05, 1, .5 at 640 px and 80 classes).
        balance: weight of each level's objectness, finest first.
        smoothing: of the class targets (label smoothing).
    """

    def __init__(
        self,
        assigner: RatioAssigner | SimOTAAssigner,
        weight_bbox: float = 0.05,
        weight_obj: float = 1.0,
        weight_cls: float = 0.5,
        balance: Sequence[float] = (4.0, 1.0, 0.4),
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.assigner, self.balance, self.smoothing = assigner, tuple(balance), smoothing
        self.weight_bbox, self.weight_obj, self.weight_cls = weight_bbox, weight_obj, weight_cls
        self.loss_bbox = CIoULoss(reduction="none")
        self.loss_cls = BinaryCrossEntropyLoss()
        self.loss_obj = BinaryCrossEntropyLoss()

    def pairs(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> Pairs:
        """Image, prior (K,) of every positive, its box (K, 4) px and label (K,).

        Args:
            predictions: what a dynamic assigner decides by.
        """
        if isinstance(self.assigner, RatioAssigner):
            found = [self.assigner.assign(predictions.priors, t.xyxy_px) for t in truth]
        else:
            found = dynamic_pairs(self.assigner, predictions, truth)
        image = torch.cat([torch.full_like(prior, number) for number, (prior, _) in enumerate(found)])
        boxes = torch.cat([t.xyxy_px[box] for t, (_, box) in zip(truth, found)])
        labels = torch.cat([t.label[box] for t, (_, box) in zip(truth, found)])
        return image, torch.cat([prior for prior, _ in found]), boxes, labels

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """Scalar loss terms of a batch; ``truth`` in network px, one entry a picture.

        Raises:
            ValueError: another number of levels than ``balance`` has.
        """
        return self.terms(predictions, self.pairs(predictions, truth), len(truth))

    def terms(self, predictions: DensePredictions, pairs: Pairs, batch: int) -> dict[str, Tensor]:
        """Scalar loss terms of ``batch`` pictures whose positives are known; see :meth:`forward`."""
        assert predictions.quality is not None
        counts = predictions.priors.counts
        if len(counts) != len(self.balance):
            raise ValueError(f"RatioCriterion balance {self.balance} of {len(self.balance)} levels, not {len(counts)}")
        image, prior, boxes, labels = pairs
        distance = self.loss_bbox(predictions.boxes_px[image, prior], boxes)
        quality = torch.zeros_like(predictions.quality, dtype=torch.float32)
        fit = (1 - distance.detach()).clamp(min=0)
        quality.view(-1).scatter_reduce_(0, image * quality.shape[1] + prior, fit, "amax")
        cls = predictions.cls[image, prior]
        wanted = torch.full_like(cls, self.smoothing / 2, dtype=torch.float32)
        wanted.scatter_(1, labels[:, None], 1 - self.smoothing / 2)
        objectness = [
            weight * self.loss_obj(logits, target)
            for weight, logits, target in zip(
                self.balance, predictions.quality.split(counts, 1), quality.split(counts, 1)
            )
        ]
        count = max(len(image), 1)
        return {
            "loss_bbox": self.weight_bbox * batch * distance.sum() / count,
            "loss_obj": self.weight_obj * batch * torch.stack(objectness).sum(),
            "loss_cls": self.weight_cls * batch * self.loss_cls(cls, wanted, avg_factor=count * cls.shape[1]),
        }
