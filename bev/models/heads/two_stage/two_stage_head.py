"""Proposals and regions as one head, so that a two-stage detector is a ``DenseDetector`` too (Faster R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.heads.dense.common import Maps
from bev.models.heads.dense.head import DenseHead
from bev.models.heads.two_stage.proposals import ProposalDecoder
from bev.models.heads.two_stage.region_head import RegionHead
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class TwoStageHead(nn.Module):
    """A dense head of one class proposes regions, a region head classifies and moves them.

    Args:
        rpn: its decoder gives the proposals.
        regions: the second stage.
        training_proposals: decoder of the proposals in training; None for that of ``rpn``.
    """

    def __init__(
        self, rpn: DenseHead, regions: RegionHead, training_proposals: ProposalDecoder | None = None
    ) -> None:
        super().__init__()
        self.rpn, self.regions = rpn, regions
        self.training_proposals, self.decoder = training_proposals or rpn.decoder, regions.decoder

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, C, H_l, W_l) -> raw maps of the first stage (``cls``, ``box``) and the ``levels`` themselves."""
        return {**self.rpn(features), "levels": list(features)}

    def loss(self, maps: Maps, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """Terms of the first stage as ``rpn_*``, and of the second; proposals end at the network's image."""
        objects = [Boxes2D(t.xyxy_px, torch.zeros_like(t.label), t.score) for t in truth]
        predictions = self.rpn.predictions(maps)
        first = self.rpn.criterion(predictions, objects)
        stride = self.rpn.priors.strides[0]
        height, width = (side * stride for side in maps["cls"][0].shape[-2:])
        proposals = self.training_proposals(predictions, [(height, width)] * len(truth))
        second = self.regions.loss(maps["levels"], [p.xyxy_px for p in proposals], truth)
        return {**{f"rpn_{name}": term for name, term in first.items()}, **second}

    def predict(self, maps: Maps, sizes_px: Sequence[tuple[float, float]]) -> list[Boxes2D]:
        """Boxes of every image, network px, by falling score; ``sizes_px`` (H, W) of the pictures without padding."""
        proposals = self.rpn.predict(maps, sizes_px)
        return self.regions.predict(maps["levels"], [p.xyxy_px for p in proposals], sizes_px)
