"""Vehicle segmentation on the bird's-eye-view grid, the task of LSS (arXiv 2008.05711, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.geometry.footprints import footprints
from bev.models.detectors.base import Detector, State, ground_truth
from bev.models.view.ipm import InversePerspective
from bev.models.view.lift_splat import LiftSplat
from bev.models.view.published_lift import PublishedLiftSplat
from bev.registry import MODELS
from bev.structures import Batch, Boxes3D, CameraRig
from bev.structures.conventions import CLASSES

VEHICLES = ("car", "truck", "construction_vehicle", "bus", "trailer", "motorcycle", "bicycle")


@MODELS.register_module()
class BEVSegmenter(Detector):
    """Image encoder, view transform, grid encoder and one logit a cell; predicts masks where detectors predict boxes.

    Scored by the metric ``BEVSegmentationIoU``.

    Args:
        preprocess, img_backbone, img_neck, img_view_transformer: as in ``LiftSplatDetector``.
        img_bev_encoder_backbone, img_bev_encoder_neck: grid -> maps -> (B, channels, Y, X).
        channels: of the encoded grid.
        classes: what counts as foreground; nuScenes' vehicles, as in LSS.
        positive_weight: of foreground cells in the loss.
    """

    def __init__(
        self,
        preprocess: nn.Module,
        img_backbone: nn.Module,
        img_neck: nn.Module,
        img_view_transformer: PublishedLiftSplat | LiftSplat | InversePerspective,
        img_bev_encoder_backbone: nn.Module,
        img_bev_encoder_neck: nn.Module,
        channels: int,
        classes: Sequence[str] = VEHICLES,
        positive_weight: float = 2.13,
    ) -> None:
        super().__init__()
        unknown = set(classes) - set(CLASSES)
        if unknown or not classes:
            raise ValueError(f"classes {sorted(unknown) or 'is empty'}: expected some of {CLASSES}")
        self.preprocess, self.img_backbone, self.img_neck = preprocess, img_backbone, img_neck
        self.img_view_transformer = img_view_transformer
        self.img_bev_encoder_backbone, self.img_bev_encoder_neck = img_bev_encoder_backbone, img_bev_encoder_neck
        self.segment = nn.Conv2d(channels, 1, 1)
        self.labels, self.positive_weight = [CLASSES.index(name) for name in classes], positive_weight

    def forward(self, images: Tensor, rig: CameraRig, state: State | None = None) -> dict[str, Any]:
        """Returns ``logits`` (B, Y, X)."""
        flat = self.preprocess(images.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        features = self.img_neck(self.img_backbone(flat)).unflatten(0, images.shape[:2])
        bev = self.img_view_transformer(features, rig).bev
        encoded = self.img_bev_encoder_neck(self.img_bev_encoder_backbone(bev))
        return {"logits": self.segment(encoded).squeeze(1)}

    def targets(self, boxes: Sequence[Boxes3D]) -> Tensor:
        """(B, Y, X) bool: cells whose centre lies in a foreground box, seen from above."""
        return torch.stack([footprints(of_classes(b, self.labels), self.img_view_transformer.grid) for b in boxes])

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        """``cells``: of all samples, background too."""
        _, y_count, x_count = self.img_view_transformer.grid.shape
        return {"cells": torch.tensor(float(len(batch) * y_count * x_count), device=batch.images.device)}

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """``loss_segmentation``: weighted binary cross entropy, averaged over the cells."""
        factors = self.target_counts(batch) if avg_factors is None else avg_factors
        logits, target = self(batch.images, batch.rig)["logits"].float(), self.targets(ground_truth(batch)).float()
        weight = logits.new_tensor(self.positive_weight)
        total = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="sum")
        return {"loss_segmentation": total / factors["cells"]}

    def predict(self, batch: Batch) -> list[Tensor]:  # type: ignore[override]
        """(Y, X) probability that a cell is foreground, one entry a frame."""
        return list(self(batch.images, batch.rig)["logits"].float().sigmoid())


def of_classes(boxes: Boxes3D, labels: Sequence[int]) -> Boxes3D:
    """The boxes of the given labels."""
    return boxes[(boxes.label[:, None] == boxes.label.new_tensor(list(labels))).any(1)]
