"""Assigners that choose among the best candidates of each box: ATSS, task alignment, ATSS in its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bev.geometry.boxes2d import contains, overlap, pairwise_overlap, to_corners
from bev.models.assigners.assignment import IGNORED, Assignment, keep_highest, nothing_assigned
from bev.models.priors import Priors
from bev.registry import MODELS

# A centre this near to a side, px, counts as outside: published constant of ATSS.
_INSIDE_PX = 0.01


@MODELS.register_module()
class ATSSAssigner:
    """Adaptive threshold (ATSS, CVPR 2020): mean plus standard deviation of the candidates' IoUs with the box.

    Candidates are the ``topk`` anchors of each level whose centres are nearest; a positive has its centre in the box.

    Args:
        topk: candidates of a level.
        ignore_iof: as in :class:`MaxIoUAssigner`.
    """

    def __init__(self, topk: int = 9, ignore_iof: float | None = None) -> None:
        self.topk, self.ignore_iof = topk, ignore_iof

    @torch.no_grad()
    def assign(self, priors: Priors, boxes: Tensor, ignore: Tensor | None = None) -> Assignment:
        """Assign P priors to boxes (M, 4) px; ``ignore`` (K, 4) px."""
        if not len(boxes):
            return nothing_assigned(len(priors), boxes.device)
        iou = pairwise_overlap(priors.xyxy_px, boxes)
        inside = torch.zeros(len(priors), dtype=torch.bool, device=iou.device)
        centers = (priors.xyxy_px[:, :2] + priors.xyxy_px[:, 2:]) / 2
        distance = (centers[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).square().sum(-1).sqrt()
        if self.ignore_iof is not None and ignore is not None and len(ignore):
            inside = pairwise_overlap(priors.xyxy_px, ignore, "iof").amax(1) > self.ignore_iof
            distance[inside], iou[inside] = torch.inf, -1.0
        candidates = self._candidates(distance, priors.counts)
        found = iou.gather(0, candidates)
        # One candidate has no deviation: it is its own threshold.
        threshold = found.mean(0) + (found.std(0) if len(found) > 1 else 0.0)
        above = found >= threshold
        chosen = torch.zeros_like(iou, dtype=torch.bool).scatter_(0, candidates, above)
        box, value = keep_highest(chosen & (contains(boxes, centers) > _INSIDE_PX), iou)
        return Assignment(torch.where(inside & (box < 0), IGNORED, box), value)

    def _candidates(self, distance: Tensor, counts: tuple[int, ...]) -> Tensor:
        """(K, M) priors."""
        picked, first = [], 0
        for count in counts:
            level = distance[first : first + count]
            picked.append(level.topk(min(self.topk, count), dim=0, largest=False).indices + first)
            first += count
        return torch.cat(picked)


@MODELS.register_module()
class TaskAlignedAssigner:
    """The priors whose class score and box agree best with a box (TOOD, ICCV 2021): ``score^alpha IoU^beta``.

    Args:
        topk: candidates of a box.
        alpha, beta: exponents of score and IoU.
        inside_first: take the best among the priors inside the box (PP-YOLOE); the paper takes the best of all and
            then drops those outside.
    """

    def __init__(self, topk: int = 13, alpha: float = 1.0, beta: float = 6.0, inside_first: bool = False) -> None:
        self.topk, self.alpha, self.beta, self.inside_first = topk, alpha, beta, inside_first

    @torch.no_grad()
    def assign(self, priors: Priors, boxes: Tensor, label: Tensor, scores: Tensor, decoded: Tensor) -> Assignment:
        """Assign P priors.

        Args:
            boxes, label: (M, 4) px and (M,) int64 ground truth.
            scores: (P, C) probabilities.
            decoded: (P, 4) px predicted boxes.
        """
        if not len(boxes):
            return nothing_assigned(len(priors), boxes.device, metric=True)
        iou = pairwise_overlap(decoded, boxes)
        metric = scores[:, label].pow(self.alpha) * iou.pow(self.beta)
        inside = contains(boxes, (priors.xyxy_px[:, :2] + priors.xyxy_px[:, 2:]) / 2) > _INSIDE_PX
        ranked = metric * inside if self.inside_first else metric
        best, index = ranked.topk(min(self.topk, len(priors)), dim=0)
        chosen = torch.zeros_like(inside).scatter_(0, index, best > 0) & inside
        box, value = keep_highest(chosen, iou)
        own = metric.gather(1, box.clamp(min=0)[:, None])[:, 0]
        return Assignment(box, value, torch.where(box >= 0, own, 0.0))


@MODELS.register_module()
class StaticQualityAssigner:
    """An assigner that knows places alone, where an aligned one is expected (PP-YOLOE's first epochs).

    Square anchors stand in for points; a positive's quality is the IoU of what it predicts with its box. With
    ``QualityCriterion(normalise=False)`` it is what PaddleDetection trains PP-YOLOE with before task alignment.

    Args:
        assigner: of anchors and boxes, such as :class:`ATSSAssigner`.
        anchor_strides: side of the squares, strides of the level (published: 5).
    """

    def __init__(self, assigner: Any, anchor_strides: float = 5.0) -> None:
        self.assigner, self.anchor_strides = assigner, anchor_strides

    @torch.no_grad()
    def assign(self, priors: Priors, boxes: Tensor, label: Tensor, scores: Tensor, decoded: Tensor) -> Assignment:
        """Assign P priors; the arguments are those of :meth:`TaskAlignedAssigner.assign`, scores are not looked at."""
        if not len(boxes):
            return nothing_assigned(len(priors), boxes.device, metric=True)
        sides = self.anchor_strides * priors.stride_px[:, None].expand(-1, 2)
        squares = replace(priors, xyxy_px=to_corners(torch.cat([priors.center_px, sides], -1)))
        found: Assignment = self.assigner.assign(squares, boxes)
        iou = overlap(decoded, boxes[found.box.clamp(min=0)])
        return replace(found, metric=torch.where(found.box >= 0, iou, 0.0))
