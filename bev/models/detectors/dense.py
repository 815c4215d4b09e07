"""The 2D detector: every variant is a choice of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bev.models.detectors.base import Detector
from bev.models.heads.dense.head import DenseHead
from bev.models.heads.dense.taught_head import TaughtHead
from bev.models.heads.two_stage import TwoStageHead
from bev.registry import MODELS
from bev.structures import Boxes2D, ImageBatch


@MODELS.register_module()
class DenseDetector(Detector):
    """Backbone, neck, dense head (or a two-stage one, whose first stage is dense).

    Args:
        preprocess: uint8 images -> normalised images.
        backbone: (B, 3, H, W) -> maps, finest first.
        neck: maps -> levels; None where the head takes the maps themselves.
        head: levels -> boxes.
    """

    def __init__(
        self,
        preprocess: nn.Module,
        backbone: nn.Module,
        neck: nn.Module | None,
        head: DenseHead | TaughtHead | TwoStageHead,
    ) -> None:
        super().__init__()
        self.preprocess, self.backbone, self.neck, self.head = preprocess, backbone, neck, head

    def forward(self, images: Tensor, rig: Any = None, state: Any = None) -> dict[str, Any]:
        """(B, 3, H, W) uint8 or float 0..255, RGB -> raw maps of the head (``cls``, ``box``, ``quality``).

        ``rig`` and ``state`` are the door's other arguments; pictures have neither.
        """
        maps = self.backbone(self.preprocess(images).contiguous(memory_format=torch.channels_last))
        return self.head(maps if self.neck is None else self.neck(maps))

    def target_counts(self, batch: ImageBatch) -> dict[str, Tensor]:  # type: ignore[override]
        """None: dense losses divide by their own positives, which most assigners choose by the predictions."""
        return {}

    def loss(  # type: ignore[override]
        self, batch: ImageBatch, avg_factors: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of the head; every micro-batch divides by its own positives.

        Raises:
            ValueError: the batch has no ground truth.
        """
        if batch.boxes is None:
            raise ValueError(f"pictures {batch.tokens} have no ground truth to learn from")
        losses: dict[str, Tensor] = self.head.loss(self(batch.images), batch.boxes)  # type: ignore[operator]
        return losses

    def predict(self, batch: ImageBatch) -> list[Boxes2D]:  # type: ignore[override]
        """Boxes in the px of each file's picture, within it, by falling score."""
        found = self.head.predict(self(batch.images), sizes_in_network(batch))
        matrices = torch.linalg.inv(batch.network_from_picture)
        return [
            in_picture(boxes, matrix, size) for boxes, matrix, size in zip(found, matrices, batch.picture_px)
        ]


def sizes_in_network(batch: ImageBatch) -> list[tuple[float, float]]:
    """(H, W) of the lower right corner of every picture in network px."""
    sizes = []
    for matrix, (height, width) in zip(batch.network_from_picture.tolist(), batch.picture_px):
        sizes.append((matrix[1][1] * height + matrix[1][2], matrix[0][0] * width + matrix[0][2]))
    return sizes


def in_picture(boxes: Boxes2D, picture_from_network: Tensor, size_px: tuple[int, int]) -> Boxes2D:
    """Boxes in network px -> in px of the file's picture of (H, W), within it; ``picture_from_network`` (3, 3)."""
    scale = picture_from_network.diagonal()[:2].repeat(2)
    shift = picture_from_network[:2, 2].repeat(2)
    height, width = size_px
    limit = scale.new_tensor([width, height, width, height])
    corners = torch.min((boxes.xyxy_px.to(scale.dtype) * scale + shift).clamp(min=0), limit)
    return Boxes2D(corners.to(boxes.xyxy_px.dtype), boxes.label, boxes.score)
