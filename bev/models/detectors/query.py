"""Detectors whose head predicts a set of boxes from camera features, one frame at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bev.models.detectors.base import Detector, State, ground_truth
from bev.models.heads.image_center_head import CenterMaps
from bev.models.heads.image_supervision import ImageSupervision
from bev.models.heads.query_head import QueryHead
from bev.models.heads.query_seeds import query_seeds
from bev.structures import Batch, Boxes3D, CameraRig


class ImageEncoder(nn.Module):
    """Images to levels of features, with the published names of its parts.

    Args:
        preprocess: uint8 images -> normalised images.
        img_backbone: (B * N, 3, H, W) -> maps, finest first.
        img_neck: maps -> levels, or one map.
        pts_bbox_head: levels -> boxes.
        grid_mask: image -> image in training.
        image_supervision: further losses on the finest level; a head that wants seeds or depth gets them from it, too.
    """

    def __init__(
        self,
        preprocess: nn.Module,
        img_backbone: nn.Module,
        img_neck: nn.Module,
        pts_bbox_head: QueryHead,
        grid_mask: nn.Module | None = None,
        image_supervision: ImageSupervision | None = None,
    ) -> None:
        super().__init__()
        self.preprocess, self.grid_mask, self.image_supervision = preprocess, grid_mask, image_supervision
        self.img_backbone, self.img_neck, self.pts_bbox_head = img_backbone, img_neck, pts_bbox_head
        if pts_bbox_head.num_peaks and image_supervision is None:
            raise ValueError(f"{pts_bbox_head.num_peaks} queries seeded by the images need an image_supervision")
        if pts_bbox_head.reads_depth and image_supervision is None:
            raise ValueError("a head that reads the images' depth needs an image_supervision")

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """(B, N, 3, H, W) -> levels (B, N, C, H_l, W_l), each camera's map in channels_last layout."""
        flat = self.preprocess(images.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        if self.grid_mask is not None:
            flat = self.grid_mask(flat)
        levels = self.img_neck(self.img_backbone(flat))
        levels = [levels] if isinstance(levels, Tensor) else levels
        return [level.unflatten(0, images.shape[:2]) for level in levels]

    def image_counts(self, batch: Batch) -> dict[str, Tensor]:
        """What the image supervision counts; nothing without one."""
        if self.image_supervision is None:
            return {}
        return self.image_supervision.counts(batch, ground_truth(batch))

    def image_maps(self, levels: list[Tensor], rig: CameraRig) -> CenterMaps | None:
        """What the image supervision sees on the finest level."""
        return None if self.image_supervision is None else self.image_supervision.image_head(levels[0], rig)

    def image_losses(
        self, levels: list[Tensor], maps: CenterMaps | None, batch: Batch, factors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Losses of the image supervision; nothing without one.

        Args:
            levels: (B, N, C, H_l, W_l).
            maps: of :meth:`image_maps`.
            batch: with ground truth.
            factors: what to divide by, see :meth:`image_counts`.
        """
        if self.image_supervision is None:
            return {}
        losses: dict[str, Tensor] = self.image_supervision(maps, batch, ground_truth(batch), factors)
        return losses

    def hints(self, levels: list[Tensor], rig: CameraRig, maps: CenterMaps | None = None) -> dict[str, Any]:
        """Arguments of a head that wants to know what the image supervision sees; none for others.

        Args:
            levels: (B, N, C, H_l, W_l).
            rig: calibration with the batch axis.
            maps: of the image supervision, where they are known already.

        Returns:
            ``seeds`` for a head with ``num_peaks``; ``depth`` (B, N, H, W, D), its distribution in every pixel, for one
            that ``reads_depth``.
        """
        peaks, reads_depth = self.pts_bbox_head.num_peaks, self.pts_bbox_head.reads_depth
        if self.image_supervision is None or not (peaks or reads_depth):
            return {}
        head = self.image_supervision.image_head
        maps = head(levels[0], rig) if maps is None else maps
        given: dict[str, Any] = {"seeds": query_seeds(head, levels[0], maps, rig, peaks)} if peaks else {}
        return {**given, "depth": maps.depth_logits.softmax(-1)} if reads_depth else given


class QueryDetector(ImageEncoder, Detector):
    """Image encoder and a set-prediction head: what DETR3D and PETR share. Arguments as of :class:`ImageEncoder`."""

    def forward(self, images: Tensor, rig: CameraRig, state: State | None = None) -> dict[str, Any]:
        """Returns ``cls_logits`` (layers, B, Q, num_classes) and ``box_code`` (layers, B, Q, 10); see QueryHead."""
        features = self.extract_features(images)
        return self.pts_bbox_head(features, rig, **self.hints(features, rig))

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        """``boxes``: pairs that matching will make; with image supervision what that counts."""
        return {**self.pts_bbox_head.target_counts(ground_truth(batch)), **self.image_counts(batch)}

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox`` of the last layer, ``d{i}.loss_cls`` ... of the earlier ones, and those of the
        image supervision."""
        factors = self.target_counts(batch) if avg_factors is None else avg_factors
        features = self.extract_features(batch.images)
        maps = self.image_maps(features, batch.rig)
        outputs = self.pts_bbox_head(features, batch.rig, **self.hints(features, batch.rig, maps))
        losses = self.pts_bbox_head.loss(outputs, ground_truth(batch), factors["boxes"])
        return {**losses, **self.image_losses(features, maps, batch, factors)}

    def predict(self, batch: Batch) -> list[Boxes3D]:
        """Boxes in the reference frame, one entry a frame, by falling score."""
        return self.pts_bbox_head.decode(self(batch.images, batch.rig))
