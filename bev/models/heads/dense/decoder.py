"""From predictions at every prior to the boxes of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from bev.geometry.boxes2d import pairwise_overlap
from bev.models.heads.dense.predictions import DensePredictions
from bev.ops.box_fusion import weighted_box_fusion
from bev.ops.diou_nms import diou_nms
from bev.ops.nms import nms, soft_nms
from bev.registry import MODELS
from bev.structures import Boxes2D

Suppression = Literal["nms", "soft_linear", "soft_gaussian", "diou", "fusion"]
Candidates = tuple[Tensor, Tensor, Tensor]
"""Prior (K,) int64, class (K,) int64, score (K,)."""


@MODELS.register_module()
class DenseDecoder:
    """Threshold, the best of every level, class-wise suppression.

    Args:
        score_threshold: of the class score (of the final one with ``quality_mode="geometric"`` or ``single_label``).
        nms_iou: boxes of a class that overlap a better one by more than this are dropped; None: no suppression, for
            heads that learn one prediction a box.
        max_boxes: kept an image; None for all.
        level_candidates: (prior, class) pairs kept of a level before the suppression; None for all.
        quality_threshold: priors whose quality is below it are dropped first (YOLOv3's objectness).
        single_label: a prior gives its best class alone (YOLOX).
        quality_mode: ``geometric``: the score is the root of class score times quality, and the best priors are chosen
            by it (PAA; with another ``quality_share`` a: ``class^(1 - a) quality^a``); ``product``: the choice is by
            the class score, then the score is the product.
        clip: whether boxes end at the picture's border.
        voting: kept boxes become means of the boxes of their class that overlap them (PAA).
        across_levels: choose the candidates among all levels together (YOLOv3).
        suppression: ``nms``; ``soft_linear`` or ``soft_gaussian`` lower the scores of overlapping boxes in place of
            dropping them; ``diou`` spares boxes whose centres lie apart; ``fusion`` makes overlapping boxes into their
            weighted mean. ``nms_iou`` is the threshold of each.
        quality_share: exponent of the quality with ``geometric`` (IoU-aware networks: 0.5; PP-YOLO: 0.4).
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        nms_iou: float | None = 0.5,
        max_boxes: int | None = 100,
        level_candidates: int | None = 1000,
        quality_threshold: float = 0.0,
        single_label: bool = False,
        quality_mode: Literal["product", "geometric"] = "product",
        clip: bool = True,
        voting: bool = False,
        across_levels: bool = False,
        suppression: Suppression = "nms",
        quality_share: float = 0.5,
    ) -> None:
        if suppression not in get_args(Suppression):
            raise ValueError(f"DenseDecoder suppression {suppression!r} is none of {', '.join(get_args(Suppression))}")
        if quality_mode not in ("product", "geometric"):
            raise ValueError(f"DenseDecoder quality_mode {quality_mode!r} is neither 'product' nor 'geometric'")
        if not 0 <= quality_share <= 1:
            raise ValueError(f"DenseDecoder quality_share {quality_share} is no share between 0 and 1")
        self.quality_share = quality_share
        self.score_threshold, self.nms_iou, self.max_boxes = score_threshold, nms_iou, max_boxes
        self.level_candidates, self.quality_threshold = level_candidates, quality_threshold
        self.single_label, self.quality_mode, self.clip = single_label, quality_mode, clip
        self.voting, self.across_levels, self.suppression = voting, across_levels, suppression

    @torch.no_grad()
    def __call__(
        self, predictions: DensePredictions, sizes_px: Sequence[tuple[float, float]]
    ) -> list[Boxes2D]:
        """Boxes of every image, by falling score; ``sizes_px`` (H, W) of the pictures without padding."""
        return [self._image(predictions, i, size) for i, size in enumerate(sizes_px)]

    def _image(self, predictions: DensePredictions, image: int, size_px: tuple[float, float]) -> Boxes2D:
        scores, boxes = predictions.scores[image], predictions.boxes_px[image]
        quality = None if predictions.quality is None else predictions.quality[image].float().sigmoid()
        counts = (len(boxes),) if self.across_levels else predictions.priors.counts
        prior, label, score = self._candidates(scores, quality, counts)
        return self.suppress(Boxes2D(boxes[prior], label, score), size_px)

    def suppress(self, candidates: Boxes2D, size_px: tuple[float, float]) -> Boxes2D:
        """The part after the choice of candidates: clip to (H, W), drop empty boxes, suppress, vote."""
        boxes = candidates.xyxy_px
        if self.clip:
            height, width = size_px
            boxes = torch.min(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
        found = Boxes2D(boxes[solid], candidates.label[solid], candidates.score[solid])
        kept = self._suppress(found)
        return vote(kept, found) if self.voting else kept

    def _suppress(self, found: Boxes2D) -> Boxes2D:
        """By falling score."""
        boxes, score, label, limit = found.xyxy_px, found.score, found.label, self.nms_iou
        if limit is None:
            return found[score.argsort(descending=True, stable=True)[: self.max_boxes]]
        if self.suppression == "nms":
            return found[nms(boxes, score, limit, label, max_num=self.max_boxes)]
        if self.suppression == "diou":
            return found[diou_nms(boxes, score, limit, label, max_num=self.max_boxes)]
        if self.suppression == "fusion":
            fused, mean, cluster = weighted_box_fusion(boxes, score, limit, label)
            labels = torch.zeros(len(fused), dtype=label.dtype, device=label.device).scatter_(0, cluster, label)
            return Boxes2D(fused, labels, mean)[: self.max_boxes]
        method: Literal["linear", "gaussian"] = "linear" if self.suppression == "soft_linear" else "gaussian"
        index, lowered = soft_nms(
            boxes, score, limit, min_score=max(self.score_threshold, 1e-3), method=method, group=label
        )
        order = lowered.argsort(descending=True, stable=True)[: self.max_boxes]
        return Boxes2D(boxes[index[order]], label[index[order]], lowered[order])

    def _candidates(self, scores: Tensor, quality: Tensor | None, counts: Sequence[int]) -> Candidates:
        """Of all levels together, by level."""
        whole = torch.arange(len(scores), device=scores.device)
        parts = [
            self._of_level(scores[rows], None if quality is None else quality[rows], rows)
            for rows in whole.split(list(counts))
        ]
        prior, label, score = (torch.cat(column) for column in zip(*parts))
        return prior, label, score

    def _of_level(self, scores: Tensor, quality: Tensor | None, rows: Tensor) -> Candidates:
        if quality is None:
            return self._best(scores, torch.ones_like(rows, dtype=scores.dtype), rows)
        if self.quality_threshold > 0:
            kept = quality >= self.quality_threshold
            scores, quality, rows = scores[kept], quality[kept], rows[kept]
        if self.quality_mode == "geometric":
            return self._best_priors(geometric_score(scores, quality[:, None], self.quality_share), rows)
        return self._best(scores, quality, rows)

    def _best(self, scores: Tensor, quality: Tensor, rows: Tensor) -> Candidates:
        if self.single_label:
            value, label = scores.max(1)
            score = value * quality
            kept = score >= self.score_threshold
            return rows[kept], label[kept], score[kept]
        row, label = (scores > self.score_threshold).nonzero().unbind(1)
        value = scores[row, label]
        if self.level_candidates is not None and len(value) > self.level_candidates:
            value, order = value.sort(descending=True)
            value, order = value[: self.level_candidates], order[: self.level_candidates]
            row, label = row[order], label[order]
        return rows[row], label, value * quality[row]

    def _best_priors(self, scores: Tensor, rows: Tensor) -> Candidates:
        """All classes of the level's best priors."""
        if self.level_candidates is not None and len(scores) > self.level_candidates:
            best = scores.amax(1).topk(self.level_candidates).indices
            scores, rows = scores[best], rows[best]
        row, label = (scores > self.score_threshold).nonzero().unbind(1)
        return rows[row], label, scores[row, label]


def geometric_score(scores: Tensor, quality: Tensor, share: float) -> Tensor:
    """``scores^(1 - share) quality^share``, broadcast."""
    if share == 0.5:
        return (scores * quality).sqrt()
    return scores.pow(1 - share) * quality.pow(share)


def vote(kept: Boxes2D, found: Boxes2D, least_iou: float = 0.01, spread: float = 0.025) -> Boxes2D:
    """Kept boxes as means over all boxes of their class (PAA, section 3.4).

    A box weighs its score times ``exp(-(1 - IoU)^2 / spread)``; boxes that overlap less than ``least_iou`` weigh
    nothing.
    """
    iou = pairwise_overlap(kept.xyxy_px, found.xyxy_px)
    same = kept.label[:, None] == found.label
    weight = torch.exp(-((1 - iou) ** 2) / spread) * found.score * (same & (iou > least_iou))
    return Boxes2D(weight @ found.xyxy_px / weight.sum(1, keepdim=True), kept.label, kept.score)
