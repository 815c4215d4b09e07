"""One prediction a box, so that nothing has to be suppressed (DETR, ECCV 2020; OneNet, arXiv 2012.05780)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bev.geometry.boxes2d import contains, overlap, to_center_size
from bev.models.assigners import BACKGROUND, Assignment
from bev.models.assigners.hungarian import least_cost_pairs
from bev.models.heads.dense.criterion import Criterion, DenseTargets, gather_targets
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.losses import GIoULoss, L1Loss, QualityFocalLoss
from bev.registry import MODELS
from bev.structures import Boxes2D

_OUTSIDE = 1e4  # cost of a prior outside the box: taken only where a box holds no free prior


@MODELS.register_module()
class OneToOneCriterion(Criterion):
    """The cheapest one-to-one matching; the class score of a match learns its IoU, all others learn zero.

    Args:
        assigner: HungarianAssigner2D, for its ``cost``.
        loss_cls: over (B * P, C) qualities; None is quality focal.
        loss_bbox: over (K, 4) corners; None is twice GIoU.
        loss_l1: over (K, 4) centres and sizes in shares of the image; None is five times L1.
    """

    def __init__(
        self,
        assigner: Any,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_l1: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.assigner = assigner
        self.loss_cls = loss_cls or QualityFocalLoss()
        self.loss_bbox = loss_bbox or GIoULoss(loss_weight=2.0)
        self.loss_l1 = loss_l1 or L1Loss(loss_weight=5.0)

    @torch.no_grad()
    def targets(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> DenseTargets:
        """What the boxes teach."""
        assignments = [self._match(predictions, image, boxes) for image, boxes in enumerate(truth)]
        return gather_targets(assignments, truth, predictions.num_classes)

    def _match(self, predictions: DensePredictions, image: int, truth: Boxes2D) -> Assignment:
        decoded = predictions.boxes_px[image]
        box = torch.full((len(decoded),), BACKGROUND, device=decoded.device)
        value = decoded.new_zeros(len(decoded))
        if len(truth):
            logits = predictions.cls[image]
            cost = self.assigner.cost(logits, decoded, truth.label, truth.xyxy_px, image_size(predictions))
            cost = cost + _OUTSIDE * (contains(truth.xyxy_px, predictions.priors.center_px) <= 0)
            rows = cheap_rows(cost)
            picked, boxes = least_cost_pairs(cost[rows])
            picked = rows[picked]
            box[picked] = boxes
            value[picked] = overlap(decoded[picked], truth.xyxy_px[boxes])
        return Assignment(box, value)

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """Scalar loss terms of a batch; ``truth`` in network px, one entry a picture."""
        targets = self.targets(predictions, truth)
        image, prior = targets.positive
        count = max(len(image), 1)
        boxes = predictions.boxes_px[image, prior]
        wanted = torch.zeros_like(predictions.cls, dtype=torch.float32)
        wanted[image, prior, targets.labels[image, prior]] = torch.stack([a.overlap for a in targets.assignments])[
            image, prior
        ]
        height, width = image_size(predictions)
        scale = boxes.new_tensor([width, height] * 2)
        l1 = self.loss_l1(to_center_size(boxes) / scale, to_center_size(targets.boxes_px) / scale, avg_factor=count)
        cls = self.loss_cls(predictions.cls.flatten(0, 1), wanted.flatten(0, 1), avg_factor=count)
        return {
            "loss_cls": cls,
            "loss_bbox": self.loss_bbox(boxes, targets.boxes_px, avg_factor=count),
            "loss_l1": l1,
        }


def image_size(predictions: DensePredictions) -> tuple[int, int]:
    """(H, W) of the network's image, px, from the cells that the priors lie in."""
    priors = predictions.priors
    far = (priors.center_px / priors.stride_px[:, None]).floor().add(1).mul(priors.stride_px[:, None]).amax(0)
    return int(far[1]), int(far[0])


def cheap_rows(cost: Tensor) -> Tensor:
    """(R,) int64 rows of a (P, M) cost that suffice for its cheapest matching, rising.

    Each column's M cheapest rows: whoever takes another row could take one of these that is still free.
    """
    count = min(cost.shape[1], cost.shape[0])
    return cost.topk(count, dim=0, largest=False).indices.flatten().unique()
