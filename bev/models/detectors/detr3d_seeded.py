"""DETR3D with queries seeded from the images, supervised by LiDAR depth: learns from little data in little time."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from bev.models.detectors.base import ground_truth
from bev.models.detectors.detr3d import Detr3D
from bev.models.heads.detr3d_seeded import SeededDetr3DHead
from bev.models.heads.image_supervision import image_counts, image_losses
from bev.registry import MODELS
from bev.structures import Batch


@MODELS.register_module()
class SeededDetr3D(Detr3D):
    """``Detr3D`` with ``SeededDetr3DHead`` on one map.

    Args:
        preprocess: uint8 images -> normalised images.
        img_backbone: (B * N, 3, H, W) -> maps, finest first.
        img_neck: maps -> one map at the image head's stride.
        pts_bbox_head: map -> boxes.
        loss_weights: factors of ``depth``, ``heatmap``, ``center`` and ``dn``; depth 0 needs no points.
    """

    pts_bbox_head: SeededDetr3DHead

    def __init__(
        self,
        preprocess: nn.Module,
        img_backbone: nn.Module,
        img_neck: nn.Module,
        pts_bbox_head: SeededDetr3DHead,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(preprocess, img_backbone, img_neck, pts_bbox_head)
        self.loss_weights = {"depth": 1.0, "heatmap": 1.0, "center": 1.0, "dn": 1.0, **(loss_weights or {})}

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        """``boxes`` to match, ``centers`` seen by a camera and, with depth supervision, pixels with a ``depth``."""
        image = image_counts(self.pts_bbox_head.image_head, self.loss_weights, batch, ground_truth(batch))
        return {**super().target_counts(batch), **image}

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Terms of ``Detr3D``, of the denoising queries (``dn.``), of the image head and of its depth distribution."""
        factors = self.target_counts(batch) if avg_factors is None else avg_factors
        boxes, weights, head = ground_truth(batch), self.loss_weights, self.pts_bbox_head
        outputs, maps, restored = head.forward_train(self.extract_features(batch.images), batch.rig, boxes)
        losses = head.loss(outputs, boxes, factors["boxes"])
        if restored is not None:
            terms = head.denoising_loss(*restored, boxes, factors["boxes"])
            losses |= {name: weights["dn"] * term for name, term in terms.items()}
        return losses | image_losses(head.image_head, weights, maps, batch, boxes, factors)
