"""Positive above one IoU, negative below another (Faster R-CNN, SSD, RetinaNet; YOLOv3 with responsible cells)."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.geometry.boxes2d import pairwise_overlap
from bev.models.assigners.assignment import BACKGROUND, IGNORED, Assignment, nothing_assigned
from bev.models.priors import Priors
from bev.registry import MODELS


@MODELS.register_module()
class MaxIoUAssigner:
    """IoU thresholds; every box may take its best anchors even below them.

    Args:
        pos_iou: an anchor whose best IoU is at least this is positive for that box.
        neg_iou: below it an anchor is negative; a pair (low, high) makes only IoUs in [low, high) negative. What is
            neither is ignored.
        min_pos_iou: a box takes its best anchors if their IoU is at least this.
        match_low_quality: whether it does.
        all_best: it takes all anchors of exactly its best IoU, or the first alone.
        ignore_iof: anchors that lie in a region to be ignored by more than this share are ignored; None for never.
    """

    def __init__(
        self,
        pos_iou: float = 0.5,
        neg_iou: float | tuple[float, float] = 0.4,
        min_pos_iou: float = 0.0,
        match_low_quality: bool = True,
        all_best: bool = True,
        ignore_iof: float | None = None,
    ) -> None:
        low, high = neg_iou if isinstance(neg_iou, (tuple, list)) else (0.0, neg_iou)
        if not 0 <= low <= high <= pos_iou <= 1:
            raise ValueError(f"MaxIoUAssigner needs 0 <= neg_iou {neg_iou} <= pos_iou {pos_iou} <= 1")
        self.pos_iou, self.neg_iou, self.min_pos_iou = pos_iou, (low, high), min_pos_iou
        self.match_low_quality, self.all_best, self.ignore_iof = match_low_quality, all_best, ignore_iof

    @torch.no_grad()
    def assign(self, priors: Priors, boxes: Tensor, ignore: Tensor | None = None) -> Assignment:
        """Assign P priors.

        Args:
            boxes: (M, 4) px.
            ignore: (K, 4) px, regions that say nothing.
        """
        if not len(boxes):
            return nothing_assigned(len(priors), boxes.device)
        iou = pairwise_overlap(boxes, priors.xyxy_px)  # (M, P)
        if self.ignore_iof is not None and ignore is not None and len(ignore):
            inside = pairwise_overlap(priors.xyxy_px, ignore, "iof").amax(1)
            iou[:, inside > self.ignore_iof] = -1.0
        best, choice = iou.max(0)
        box = torch.full_like(choice, IGNORED)
        box[(best >= self.neg_iou[0]) & (best < self.neg_iou[1])] = BACKGROUND
        box = torch.where(best >= self.pos_iou, choice, box)
        return Assignment(self._rescue(box, iou) if self.match_low_quality else box, best)

    def _rescue(self, box: Tensor, iou: Tensor) -> Tensor:
        """Give every box its best anchors; of two boxes that want one anchor, the later takes it."""
        best, first = iou.max(1)
        if self.all_best:
            wanted = iou == best[:, None]
        else:
            wanted = torch.zeros_like(iou, dtype=torch.bool).scatter_(1, first[:, None], True)
        wanted &= (best >= self.min_pos_iou)[:, None]
        number = torch.arange(len(iou), device=iou.device)[:, None]
        latest = torch.where(wanted, number, BACKGROUND).amax(0)
        return torch.where(latest >= 0, latest, box)


@MODELS.register_module()
class GridAssigner:
    """As :class:`MaxIoUAssigner`, but only anchors of the cell that holds a box's centre may be positive (YOLOv3).

    Args:
        pos_iou: a responsible anchor above it is positive.
        neg_iou: anchors at most this are negative; what is neither is ignored.
        min_pos_iou: a box takes its best responsible anchors above this.
    """

    def __init__(self, pos_iou: float = 0.5, neg_iou: float = 0.5, min_pos_iou: float = 0.0) -> None:
        self.pos_iou, self.neg_iou, self.min_pos_iou = pos_iou, neg_iou, min_pos_iou

    @torch.no_grad()
    def assign(self, priors: Priors, boxes: Tensor) -> Assignment:
        """Assign P priors to boxes (M, 4) px."""
        if not len(boxes):
            return nothing_assigned(len(priors), boxes.device)
        iou = pairwise_overlap(boxes, priors.xyxy_px)
        best = iou.amax(0)
        negative = (best >= 0) & (best <= self.neg_iou)
        responsible = responsible_cells(priors, boxes)
        iou = torch.where(responsible.any(0), iou, -1.0)
        value, choice = iou.max(0)
        box = torch.where(negative, BACKGROUND, IGNORED)
        box = torch.where((value > self.pos_iou) & responsible.any(0), choice, box)
        own = iou.amax(1, keepdim=True)
        wanted = (iou == own) & (own > self.min_pos_iou) & responsible.any(0)
        latest = torch.where(wanted, torch.arange(len(boxes), device=box.device)[:, None], BACKGROUND).amax(0)
        return Assignment(torch.where(latest >= 0, latest, box), best)


def responsible_cells(priors: Priors, boxes: Tensor) -> Tensor:
    """(M, P) bool: the prior's cell holds the box's centre."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    cell_of_box = (center[:, None] / priors.stride_px[None, :, None]).floor()
    cell = (priors.center_px / priors.stride_px[:, None]).floor()
    return (cell_of_box == cell).all(-1)
