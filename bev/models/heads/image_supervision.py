"""Class centres and depth on the images as supervision of an image encoder whose own loss is far away from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bev.models.heads.image_center_head import CenterMaps, ImageCenterHead
from bev.models.losses.depth import batch_depth_targets, depth_loss
from bev.registry import MODELS
from bev.structures import Batch, Boxes3D


@MODELS.register_module()
class ImageSupervision(nn.Module):
    """Losses of an ``ImageCenterHead`` on the finest level; inference does not know of it but for queries' seeds.

    Args:
        image_head: heatmaps, centres, depth.
        weights: factors of ``heatmap``, ``center`` and ``depth``, 1 where not given; depth 0 needs no points.
        measured_share: share of training frames of which a head that reads the images' depth is told the LiDAR's where
            there is one: it learns from things in their right places before the images know how far away they are.
    """

    def __init__(
        self,
        image_head: ImageCenterHead,
        weights: Mapping[str, float] | None = None,
        measured_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_head, self.measured_share = image_head, measured_share
        self.weights = {"heatmap": 1.0, "center": 1.0, "depth": 1.0, **(weights or {})}
        if unknown := set(self.weights) - {"heatmap", "center", "depth"}:
            raise ValueError(f"ImageSupervision weights {sorted(unknown)} are unknown; valid: heatmap, center, depth")

    def counts(self, batch: Batch, boxes: Sequence[Boxes3D]) -> dict[str, Tensor]:
        """See :func:`image_counts`."""
        return image_counts(self.image_head, self.weights, batch, boxes)

    def told_depth(self, depth: Tensor, batch: Batch) -> Tensor:
        """(B, N, H, W, D) distributions -> the same, in frames that are drawn certain where LiDAR points are."""
        if not self.training or not self.measured_share:
            return depth
        drawn = torch.rand(len(batch), device=depth.device) < self.measured_share
        measured_m = batch_depth_targets(batch, self.image_head.stride_px) * drawn[:, None, None, None]
        return self.image_head.depth_bins.certain_where(measured_m, depth)

    def forward(
        self, maps: CenterMaps, batch: Batch, boxes: Sequence[Boxes3D], factors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """See :func:`image_losses`."""
        return image_losses(self.image_head, self.weights, maps, batch, boxes, factors)


def image_counts(
    head: ImageCenterHead, weights: Mapping[str, float], batch: Batch, boxes: Sequence[Boxes3D]
) -> dict[str, Tensor]:
    """``centers`` seen by a camera and, with depth supervision, pixels with a ``depth``; scalars."""
    centers = sum(len(t.camera) for t in head.batch_targets(batch, boxes))
    counts = {"centers": torch.tensor(float(centers), device=batch.rig.device)}
    if weights["depth"]:
        counts["depth"] = (head.depth_bins.index(batch_depth_targets(batch, head.stride_px)) >= 0).sum().float()
    return counts


def image_losses(
    head: ImageCenterHead,
    weights: Mapping[str, float],
    maps: CenterMaps,
    batch: Batch,
    boxes: Sequence[Boxes3D],
    factors: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """``loss_heatmap``, ``loss_center`` and, with depth supervision, ``loss_depth``; scalars.

    Args:
        head: that made the maps.
        weights: factors of ``heatmap``, ``center`` and ``depth``.
        maps: what ``head`` made of the features at its stride.
        batch: whose rig and points are used.
        boxes: ground truth, one entry a frame.
        factors: what to divide by, see :func:`image_counts`.
    """
    terms = head.loss(maps, head.batch_targets(batch, boxes), factors["centers"])
    losses = {name: weights[name.removeprefix("loss_")] * term for name, term in terms.items()}
    if weights["depth"]:
        total = depth_loss(maps.depth_logits, batch_depth_targets(batch, head.stride_px), head.depth_bins)
        losses["loss_depth"] = weights["depth"] * total / factors["depth"].clamp(min=1)
    return losses
