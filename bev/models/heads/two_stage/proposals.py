"""The region proposal network (Faster R-CNN, arXiv 1506.01497) as a network and decoder of a dense head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.heads.dense.common import Maps, start_predictor
from bev.models.heads.dense.decoder import DenseDecoder
from bev.models.heads.dense.predictions import DensePredictions
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class ProposalConvs(nn.Module):
    """One 3x3 convolution that all levels share, and 1x1 ones for objectness and boxes; names of mmdet's ``RPNHead``.

    Args:
        in_channels: of every level.
        feat_channels: of the 3x3 convolution.
        per_cell: anchors of a cell.
    """

    def __init__(self, in_channels: int = 256, feat_channels: int = 256, per_cell: int = 3) -> None:
        super().__init__()
        self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(feat_channels, per_cell, 1)
        self.rpn_reg = nn.Conv2d(feat_channels, 4 * per_cell, 1)
        start_predictor([self.rpn_conv, self.rpn_cls, self.rpn_reg])

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, in_channels, H_l, W_l) -> ``cls`` (one class, the object) and ``box``."""
        maps: Maps = {"cls": [], "box": []}
        for level in features:
            x = F.relu(self.rpn_conv(level))
            maps["cls"].append(self.rpn_cls(x))
            maps["box"].append(self.rpn_reg(x))
        return maps


@MODELS.register_module()
class ProposalDecoder(DenseDecoder):
    """The best anchors of every level, suppressed within their level; boxes of class 0 by falling score.

    Args:
        level_candidates: anchors of a level before the suppression.
        max_boxes: proposals of a picture.
        nms_iou: of the suppression.
    """

    def __init__(self, level_candidates: int = 1000, max_boxes: int = 1000, nms_iou: float = 0.7) -> None:
        super().__init__(-1.0, nms_iou, max_boxes, level_candidates)

    def _image(self, predictions: DensePredictions, image: int, size_px: tuple[float, float]) -> Boxes2D:
        counts = predictions.priors.counts
        prior, label, score = self._candidates(predictions.scores[image], None, counts)
        level = torch.bucketize(prior, torch.tensor(counts, device=prior.device).cumsum(0), right=True)
        found = self.suppress(Boxes2D(predictions.boxes_px[image][prior], level, score), size_px)
        return Boxes2D(found.xyxy_px, torch.zeros_like(found.label), found.score)
