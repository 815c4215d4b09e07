"""Detectors of the lift-splat family (LSS, BEVDet)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bev.geometry.mirror import ReferenceFrame, mirror_cameras, mirror_order
from bev.models.detectors.base import Detector, State, ground_truth
from bev.models.heads.center_head import CenterHead
from bev.models.heads.image_center_head import CenterTargets, ImageCenterHead
from bev.models.losses.depth import batch_depth_targets, depth_loss
from bev.models.view.lift_splat import LiftSplat, LiftSplatOutput
from bev.registry import MODELS
from bev.structures import Batch, Boxes3D, CameraRig


@MODELS.register_module()
class BEVDet(Detector):
    """Image encoder, lift-splat view transform, BEV encoder, CenterPoint head (BEVDet, arXiv 2112.11790).

    Args:
        preprocess: uint8 images -> normalised images.
        img_backbone, img_neck: (B * N, 3, H, W) -> one map at the view transform's stride.
        img_view_transformer: image features -> BEV grid.
        bev_encoder: grid -> grid.
        pts_bbox_head: grid -> boxes.
        img_center_head: class heatmaps on the images, in training only: they teach the image encoder its classes long
            before the grid does (CenterNet, arXiv 1904.07850).
        center_loss_weight: weight of that supervision.
        image_evidence: share a of the image heatmaps in the final scores, ``grid^(1 - a) * image^a`` with the image's
            probability of the class around the projected centre: the two views of a box err in different ways.
        depth_loss_weight: weight of the LiDAR depth supervision (BEVDepth); 0 needs no points.
        measured_share: share of training frames that are lifted with the LiDAR's depth where there is one: the grid's
            part learns from sharp maps while the depth is still being learned.
        mirror_test: reference frame of the rig ("lidar" or "ego") to predict from the mean of the maps of the world and
            of its mirror image, at twice the cost; None to predict from the world alone.
    """

    def __init__(
        self,
        preprocess: nn.Module,
        img_backbone: nn.Module,
        img_neck: nn.Module,
        img_view_transformer: LiftSplat,
        bev_encoder: nn.Module,
        pts_bbox_head: CenterHead,
        depth_loss_weight: float = 0.0,
        measured_share: float = 0.0,
        img_center_head: ImageCenterHead | None = None,
        center_loss_weight: float = 1.0,
        mirror_test: ReferenceFrame | None = None,
        image_evidence: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= image_evidence < 1 or (image_evidence and img_center_head is None):
            raise ValueError(f"image_evidence {image_evidence} must be in [0, 1) and needs an img_center_head")
        self.preprocess, self.img_backbone, self.img_neck = preprocess, img_backbone, img_neck
        self.img_view_transformer, self.bev_encoder = img_view_transformer, bev_encoder
        self.pts_bbox_head, self.depth_loss_weight = pts_bbox_head, depth_loss_weight
        self.measured_share, self.mirror_test = measured_share, mirror_test
        self.img_center_head, self.center_loss_weight = img_center_head, center_loss_weight
        self.image_evidence = image_evidence

    def forward(self, images: Tensor, rig: CameraRig, state: State | None = None) -> dict[str, Any]:
        """Returns ``tasks`` (list of branch maps, see CenterHead), ``depth_logits`` (B, N, H, W, D) and, where scores
        use them, ``image_heatmap`` (B, N, K, H, W) probabilities."""
        features = self.extract_features(images)
        output = self._detect(features, rig)
        if self.image_evidence and self.img_center_head is not None:
            output["image_heatmap"] = self.img_center_head(features, rig).heatmap.sigmoid()
        return output

    def extract_features(self, images: Tensor) -> Tensor:
        """(B, N, 3, H, W) -> (B, N, C, H / stride, W / stride), each camera's map in channels_last layout."""
        flat = self.preprocess(images.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        return self.img_neck(self.img_backbone(flat)).unflatten(0, images.shape[:2])

    def _detect(self, features: Tensor, rig: CameraRig, measured_m: Tensor | None = None) -> dict[str, Any]:
        lifted: LiftSplatOutput = self.img_view_transformer(features, rig, measured_m)
        return {"tasks": self.pts_bbox_head(self.bev_encoder(lifted.bev)), "depth_logits": lifted.depth_logits}

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        """Boxes of each task and, with depth supervision, pixels with a depth."""
        counts = self.pts_bbox_head.target_counts(ground_truth(batch))
        if self.depth_loss_weight:
            view = self.img_view_transformer
            counts["depth"] = (view.depth_bins.index(self._depth_targets(batch)) >= 0).sum().float()
        if self.img_center_head is not None:
            counts["centers"] = torch.tensor(float(sum(len(t.camera) for t in self._center_targets(batch))))
        return counts

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Heatmap and box terms of every task and, with depth supervision, ``loss_depth``."""
        factors = self.target_counts(batch) if avg_factors is None else avg_factors
        features = self.extract_features(batch.images)
        output = self._detect(features, batch.rig, self._measured(batch))
        losses = self.pts_bbox_head.loss(output["tasks"], ground_truth(batch), factors)
        if self.depth_loss_weight:
            total = depth_loss(output["depth_logits"], self._depth_targets(batch), self.img_view_transformer.depth_bins)
            losses["loss_depth"] = self.depth_loss_weight * total / factors["depth"].clamp(min=1.0)
        if self.img_center_head is not None:
            maps = self.img_center_head(features, batch.rig)
            terms = self.img_center_head.loss(maps, self._center_targets(batch), factors["centers"])
            losses |= {f"image.{name}": self.center_loss_weight * value for name, value in terms.items()}
        return losses

    def _measured(self, batch: Batch) -> Tensor | None:
        """(B, N, H, W) LiDAR depths, 0 in frames that were not drawn; None where none is to be used."""
        if not self.training or not self.measured_share:
            return None
        depth_m = self._depth_targets(batch)
        drawn = torch.rand(len(batch), device=depth_m.device) < self.measured_share
        return depth_m * drawn[:, None, None, None]

    def _center_targets(self, batch: Batch) -> list[CenterTargets]:
        assert self.img_center_head is not None
        return self.img_center_head.batch_targets(batch, ground_truth(batch))

    def _depth_targets(self, batch: Batch) -> Tensor:
        return batch_depth_targets(batch, self.img_view_transformer.stride_px)

    def predict(self, batch: Batch) -> list[Boxes3D]:
        """Boxes in the reference frame, one entry a frame, by falling score."""
        output = self(batch.images, batch.rig)
        if self.mirror_test is not None:
            output = self._mean_with_mirrored(output, batch, self.mirror_test)
        found = self.pts_bbox_head.decode(output["tasks"])
        if not self.image_evidence:
            return found
        return [self._rescored(boxes, output["image_heatmap"][i], batch, i) for i, boxes in enumerate(found)]

    def _mean_with_mirrored(self, output: dict[str, Any], batch: Batch, frame: ReferenceFrame) -> dict[str, Any]:
        mirrored = self(*mirror_cameras(batch.images, batch.rig, frame))
        mean = {"tasks": self.pts_bbox_head.average_with_mirrored(output["tasks"], mirrored["tasks"], frame)}
        if "image_heatmap" in output:
            seen_again = mirrored["image_heatmap"].flip(-1)[:, mirror_order(batch.rig.names)]
            mean["image_heatmap"] = (output["image_heatmap"] + seen_again) / 2
        return mean

    def _rescored(self, boxes: Boxes3D, heatmap: Tensor, batch: Batch, frame: int) -> Boxes3D:
        assert self.img_center_head is not None
        rig = batch.rig
        seen, probability = self.img_center_head.evidence(boxes, heatmap, rig.img_from_ref[frame], rig.image_size_px)
        mixed = boxes.score ** (1 - self.image_evidence) * probability**self.image_evidence
        score = torch.where(seen, mixed, boxes.score)
        order = score.argsort(descending=True, stable=True)
        return replace(boxes, score=score)[order]
