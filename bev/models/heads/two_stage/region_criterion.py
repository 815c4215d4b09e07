"""What proposals learn: a class with background, and a box for their class (Fast R-CNN, ICCV 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bev.models.assigners import Assignment
from bev.models.coders.image_boxes import ImageBoxCoder
from bev.models.heads.two_stage.sampling import RandomSampler
from bev.models.losses import CrossEntropyLoss, L1Loss
from bev.models.losses.hard_examples import hardest_regions
from bev.models.priors import Priors
from bev.registry import MODELS
from bev.structures import Boxes2D


class RegionTargets(NamedTuple):
    """R regions of a batch, picture by picture, positives first.

    Attributes:
        rois_px: (R, 5) picture, then corners, px.
        label: (R,) int64, the number of classes for background.
        wanted_px: (R, 4) box of each positive; zeros elsewhere.
        per_image: regions of every picture.
    """

    rois_px: Tensor
    label: Tensor
    wanted_px: Tensor
    per_image: list[int]


def as_priors(xyxy_px: Tensor) -> Priors:
    """Boxes (P, 4) as priors of one level."""
    center = (xyxy_px[:, :2] + xyxy_px[:, 2:]) / 2
    return Priors(xyxy_px, center, torch.ones_like(center[:, 0]), (len(xyxy_px),))


@MODELS.register_module()
class RegionCriterion(nn.Module):
    """Softmax of the class over all sampled regions, L1 of the encoded box over the positives; means over the regions.

    Args:
        assigner: proposals and boxes -> Assignment.
        sampler: which of them teach; the ground truth itself is added to the proposals.
        loss_cls: over (R, C + 1) logits and class indices.
        loss_bbox: over (K, 4) encoded boxes.
        hard_examples: instead of a random draw, this many regions of largest loss a picture, without those that overlap
            a worse one by more than 0.7 (OHEM, arXiv 1604.03540); give the sampler a large count then.
    """

    def __init__(
        self,
        assigner: Any,
        sampler: RandomSampler,
        loss_cls: Any = None,
        loss_bbox: Any = None,
        hard_examples: int | None = None,
    ) -> None:
        super().__init__()
        self.assigner, self.sampler, self.hard_examples = assigner, sampler, hard_examples
        self.loss_cls, self.loss_bbox = loss_cls or CrossEntropyLoss(), loss_bbox or L1Loss()

    @torch.no_grad()
    def targets(self, proposals: Sequence[Tensor], truth: Sequence[Boxes2D], num_classes: int) -> RegionTargets:
        """What is taught; ``proposals`` (P_i, 4) corners, px, of every picture."""
        parts = [self._image(number, p, t, num_classes) for number, (p, t) in enumerate(zip(proposals, truth))]
        rois, labels, wanted = (torch.cat(column) for column in zip(*parts))
        return RegionTargets(rois, labels, wanted, [len(part[0]) for part in parts])

    def _image(self, number: int, proposals: Tensor, truth: Boxes2D, classes: int) -> tuple[Tensor, Tensor, Tensor]:
        boxes = truth.xyxy_px.to(proposals.dtype)
        found = self.assigner.assign(as_priors(proposals), boxes)
        # The ground truth stands before the proposals, each box assigned to itself.
        itself = torch.arange(len(boxes), device=proposals.device)
        everything = torch.cat([boxes, proposals])
        overlap = torch.cat([torch.ones_like(boxes[:, 0]), found.overlap])
        sampled = self.sampler.sample(Assignment(torch.cat([itself, found.box]), overlap))
        positive, negative = sampled.positive, sampled.negative
        rows = torch.cat([positive, negative])
        wanted = torch.cat([boxes[sampled.box[positive]], boxes.new_zeros(len(negative), 4)])
        rois = torch.cat([torch.full_like(everything[rows][:, :1], number), everything[rows]], 1)
        return rois, sampled.labels(truth.label, classes)[rows], wanted

    def forward(self, cls: Tensor, box: Tensor, targets: RegionTargets, coder: ImageBoxCoder) -> dict[str, Tensor]:
        """Scalar loss terms.

        Args:
            cls: (R, C + 1) logits, background last.
            box: (R, C, 4) encoded boxes, one for each class.
        """
        label, classes = targets.label, cls.shape[1] - 1
        positive = (label < classes).nonzero().flatten()
        wanted = coder.encode(as_priors(targets.rois_px[positive, 1:]), targets.wanted_px[positive])
        found = box[positive, label[positive]]
        weight, count = torch.ones_like(cls[:, 0]), len(label)
        if self.hard_examples is not None:
            weight = self._hardest(cls, found, wanted, positive, targets)
            count = int(weight.sum())
        return {
            "loss_cls": self.loss_cls(cls, label, weight, avg_factor=max(count, 1)),
            "loss_bbox": self.loss_bbox(found, wanted, weight[positive], avg_factor=max(count, 1)),
        }

    @torch.no_grad()
    def _hardest(
        self, cls: Tensor, found: Tensor, wanted: Tensor, positive: Tensor, targets: RegionTargets
    ) -> Tensor:
        """(R,) ones and zeros."""
        assert self.hard_examples is not None
        boxes = self.loss_bbox.elements(found, wanted).flatten(1).sum(1)
        loss = self.loss_cls.elements(cls, targets.label).index_add(0, positive, boxes)
        weight, first = torch.zeros_like(loss), 0
        for count in targets.per_image:
            rows = slice(first, first + count)
            weight[first + hardest_regions(loss[rows], targets.rois_px[rows, 1:], self.hard_examples)] = 1.0
            first += count
        return weight
