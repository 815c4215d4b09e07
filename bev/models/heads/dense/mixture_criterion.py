"""Positives by a mixture of two Gaussians over the anchors' losses (PAA, ECCV 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bev.geometry.boxes2d import overlap
from bev.models.assigners import BACKGROUND, Assignment
from bev.models.heads.dense.criterion import Criterion, DenseTargets, gather_targets
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.losses import BinaryCrossEntropyLoss
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class MixtureCriterion(Criterion):
    """Each box keeps those of its candidate anchors whose loss belongs to the better of two Gaussians.

    Args:
        assigner: gives every box its candidates.
        loss_cls: over class indices with background; loss_bbox over (K, 4) corners, whose elements are (K,).
        loss_bbox: see ``loss_cls``.
        loss_quality: over the logits of the predicted IoU.
        topk: candidates of a level that enter the mixture.
    """

    def __init__(
        self,
        assigner: Any,
        loss_cls: Any,
        loss_bbox: Any,
        loss_quality: nn.Module | None = None,
        topk: int = 9,
    ) -> None:
        super().__init__()
        self.assigner, self.loss_cls, self.loss_bbox, self.topk = assigner, loss_cls, loss_bbox, topk
        self.loss_quality = loss_quality or BinaryCrossEntropyLoss(loss_weight=0.5)

    def candidates(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> DenseTargets:
        """Every box's candidates, before the mixture chooses."""
        assignments = [self.assigner.assign(predictions.priors, t.xyxy_px) for t in truth]
        return gather_targets(assignments, truth, predictions.num_classes)

    @torch.no_grad()
    def targets(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> DenseTargets:
        """What the boxes teach, after the mixture has chosen."""
        broad = self.candidates(predictions, truth)
        cost = self._costs(predictions, broad).split(broad.per_image)
        chosen = [
            self._choose(assignment, values, predictions.priors.counts)
            for assignment, values in zip(broad.assignments, cost)
        ]
        targets = gather_targets(chosen, truth, predictions.num_classes)
        # As published, what the mixture rejects becomes background; weights stay those of the candidates.
        return replace(targets, label_weights=broad.label_weights)

    def _costs(self, predictions: DensePredictions, targets: DenseTargets) -> Tensor:
        """(K,) class and box loss of every candidate."""
        image, prior = targets.positive
        classes = self.loss_cls.elements(predictions.cls[image, prior], targets.labels[image, prior]).sum(-1)
        boxes = self.loss_bbox.elements(predictions.boxes_px[image, prior], targets.boxes_px)
        return self.loss_cls.loss_weight * classes + self.loss_bbox.loss_weight * boxes

    def _choose(self, assignment: Assignment, cost: Tensor, counts: tuple[int, ...]) -> Assignment:
        rows = assignment.positive
        level = torch.bucketize(rows, torch.tensor(counts, device=rows.device).cumsum(0), right=True)
        box = torch.where(assignment.box >= 0, BACKGROUND, assignment.box)
        for number in assignment.box[rows].unique().tolist():
            own = assignment.box[rows] == number
            picked = [self._cheapest(rows, cost, own & (level == at)) for at in range(len(counts))]
            index = torch.cat([i for i, _ in picked])
            value, order = torch.cat([v for _, v in picked]).sort()
            if len(value) >= 2:  # two Gaussians need two samples
                kept = better_part(value.double().cpu().numpy())
                box[index[order[:kept]]] = number
        return replace(assignment, box=box)

    def _cheapest(self, rows: Tensor, cost: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
        value, index = cost[among].topk(min(self.topk, int(among.sum())), largest=False)
        return rows[among][index], value

    def forward(self, predictions: DensePredictions, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """``loss_cls`` over the positives or the images, whichever are more, ``loss_bbox`` over the sum of the
        positives' IoUs, ``loss_quality`` over the positives; the network must predict a quality."""
        assert predictions.quality is not None
        targets = self.targets(predictions, truth)
        image, prior = targets.positive
        cls, labels = predictions.cls.flatten(0, 1), targets.labels.flatten()
        weights = targets.label_weights.flatten()
        boxes = predictions.boxes_px[image, prior]
        iou = overlap(boxes.detach(), targets.boxes_px)
        total = iou.sum().clamp(min=1e-12)
        return {
            "loss_cls": self.loss_cls(cls, labels, weights, avg_factor=max(len(image), len(truth))),
            "loss_bbox": self.loss_bbox(boxes, targets.boxes_px, iou.clamp(min=1e-12), avg_factor=total),
            "loss_quality": self.loss_quality(predictions.quality[image, prior], iou, avg_factor=max(len(image), 1)),
        }


def better_part(values: np.ndarray, tolerance: float = 1e-3, rounds: int = 100) -> int:
    """How many of the smallest values belong to the lower of two Gaussians, up to its likeliest value.

    Expectation maximisation in one dimension from the extremes, equal weights and unit variances; variances have 1e-6
    added, and it ends when the mean log likelihood moves by less than ``tolerance`` (the published choice, that of
    scikit-learn's defaults).

    Args:
        values: (K,) rising, float64, K >= 2.
    """
    mean, variance, weight = np.array([values[0], values[-1]]), np.ones(2), np.full(2, 0.5)
    previous = -math.inf
    for _ in range(rounds):
        logs = _log_densities(values, mean, variance, weight)
        total = np.logaddexp(logs[:, 0], logs[:, 1])
        share = np.exp(logs - total[:, None])
        mass = share.sum(0) + 10 * np.finfo(np.float64).eps
        mean = share.T @ values / mass
        variance = np.maximum(share.T @ values**2 / mass - mean**2, 0) + 1e-6
        weight = mass / mass.sum()
        if abs(total.mean() - previous) < tolerance:
            break
        previous = total.mean()
    logs = _log_densities(values, mean, variance, weight)
    lower = logs.argmax(1) == 0
    if not lower.any():
        return 0
    likelihood = np.logaddexp(logs[:, 0], logs[:, 1])
    members = np.flatnonzero(lower)
    return int(members[: likelihood[lower].argmax() + 1].size)


def _log_densities(values: np.ndarray, mean: np.ndarray, variance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(K, 2) logarithm of weight times density."""
    distance = (values[:, None] - mean) ** 2 / variance
    return np.log(weight) - 0.5 * (np.log(2 * math.pi * variance) + distance)
