"""What the criteria of dense heads share: a criterion assigns boxes to priors and gives the losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bev.models.assigners import IGNORED, Assignment
from bev.models.heads.dense.predictions import DensePredictions
from bev.structures import Boxes2D


@dataclass(frozen=True, eq=False)
class DenseTargets:
    """What B images teach at P priors.

    Attributes:
        assignments: of every image.
        labels: (B, P) int64 class, ``num_classes`` for background and ignored priors.
        label_weights: (B, P) 0 where a prior is ignored, else 1.
        positive: two (K,) int64 tensors, image and prior of each positive, in that order.
        boxes_px: (K, 4) box of each positive.
    """

    assignments: list[Assignment]
    labels: Tensor
    label_weights: Tensor
    positive: tuple[Tensor, Tensor]
    boxes_px: Tensor

    @property
    def per_image(self) -> list[int]:
        """Positives of every image."""
        return torch.bincount(self.positive[0], minlength=len(self.assignments)).tolist()


def gather_targets(assignments: Sequence[Assignment], truth: Sequence[Boxes2D], num_classes: int) -> DenseTargets:
    """Assignments of a batch as targets."""
    labels = torch.stack([a.labels(t.label, num_classes) for a, t in zip(assignments, truth)])
    weights = torch.stack([(a.box != IGNORED).float() for a in assignments])
    chosen = [a.positive for a in assignments]
    image = torch.cat([torch.full_like(rows, number) for number, rows in enumerate(chosen)])
    boxes = torch.cat([t.xyxy_px[a.box[rows]] for a, t, rows in zip(assignments, truth, chosen)])
    return DenseTargets(list(assignments), labels, weights, (image, torch.cat(chosen)), boxes)


class Criterion(nn.Module, ABC):
    """Targets and losses of a dense head."""

    @abstractmethod
    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """Scalar loss terms by name; zero, with a gradient, where nothing can be taught."""


def at_least_one_each(targets: DenseTargets) -> float:
    """Positives of the batch, an image without any counted as one: published normaliser of anchor heads."""
    return float(sum(max(count, 1) for count in targets.per_image))


def centerness(centers_px: Tensor, boxes_px: Tensor) -> Tensor:
    """(K, 2) points, (K, 4) boxes around them -> (K,) how central they are (FCOS, equation 3); 0 on a side."""
    near, far = centers_px - boxes_px[:, :2], boxes_px[:, 2:] - centers_px
    low, high = torch.min(near, far), torch.max(near, far)
    return (low / high.clamp(min=1e-6)).clamp(min=0).prod(-1).sqrt()
