"""StreamPETR's 2D head: boxes and centres in the pictures, which teach the image encoder and predict nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.geometry.boxes2d import overlap, to_center_size
from bev.geometry.projection import project
from bev.models.assigners.hungarian import HungarianAssigner2D, least_cost_pairs
from bev.models.coders import inverse_sigmoid
from bev.models.heads.center_targets import draw_heatmap
from bev.models.losses import GIoULoss, L1Loss, QualityFocalLoss
from bev.models.losses.gaussian_focal import gaussian_focal_loss
from bev.registry import MODELS
from bev.structures import Batch, Boxes3D

_NEAREST_M = 0.1  # centres nearer to the camera than that are not seen
_SMALLEST_PX = 2.0
# Factors of the published configuration; those of the matching are the same, without centerness.
_WEIGHTS = {"cls": 2.0, "bbox": 5.0, "giou": 2.0, "center": 10.0, "centerness": 1.0}


class PictureBoxes(NamedTuple):
    """What one picture shows.

    Attributes:
        corners_px: (M, 4) left, top, right, bottom, inside the picture.
        center_px: (M, 2) projection of the box's centre, inside the picture.
        label: (M,) int64.
    """

    corners_px: Tensor
    center_px: Tensor
    label: Tensor


class FocalMaps(NamedTuple):
    """Predictions of P pictures with S = H * W pixels of the feature map each, float32.

    Attributes:
        logits: (P, S, num_classes).
        centerness: (P, S) logits.
        corners: (P, S, 4) left, top, right, bottom in shares of the picture.
        center: (P, S, 2) x, y in shares of the picture.
    """

    logits: Tensor
    centerness: Tensor
    corners: Tensor
    center: Tensor


@MODELS.register_module()
class FocalHead(nn.Module):
    """2D boxes, projected centres and centerness at every pixel (Focal-PETR, arXiv 2212.05505), as StreamPETR trains
    with them; parameter names are those of the published checkpoints.

    Args:
        in_channels: of the features.
        num_classes: foreground classes.
        stride_px: network px a feature pixel.
        weights: factors of the loss terms ``cls``, ``bbox``, ``giou``, ``center`` and ``centerness``, as published
            where not given. The first four weigh the costs of the matching, too.
    """

    def __init__(
        self, in_channels: int, num_classes: int, stride_px: int = 16, weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        if unknown := set(weights or {}) - set(_WEIGHTS):
            raise ValueError(f"FocalHead weights {sorted(unknown)} are unknown; valid: {', '.join(_WEIGHTS)}")
        factor = {**_WEIGHTS, **(weights or {})}
        self.num_classes, self.stride_px, self.weights = num_classes, stride_px, factor
        self.shared_cls, self.shared_reg = _shared(in_channels), _shared(in_channels)
        self.cls, self.centerness = nn.Conv2d(in_channels, num_classes, 1), nn.Conv2d(in_channels, 1, 1)
        self.ltrb, self.center2d = nn.Conv2d(in_channels, 4, 1), nn.Conv2d(in_channels, 2, 1)
        for layer in (self.cls, self.centerness):
            nn.init.constant_(layer.bias, -math.log(99.0))  # type: ignore[arg-type]
        self.assigner = HungarianAssigner2D(factor["cls"], factor["bbox"], factor["giou"])
        self.loss_cls = QualityFocalLoss(loss_weight=factor["cls"])
        self.loss_bbox, self.loss_center = L1Loss(factor["bbox"]), L1Loss(factor["center"])
        self.loss_giou = GIoULoss(loss_weight=factor["giou"])

    def forward(self, features: Tensor) -> FocalMaps:
        """(B, N, C, H, W) features -> predictions of the P = B * N pictures."""
        flat = features.flatten(0, 1)
        at_class, at_box = self.shared_cls(flat), self.shared_reg(flat)
        place = self._places(features)
        sides = _by_pixel(self.ltrb(at_box)).sigmoid()
        corners = torch.cat([place - sides[..., :2], place + sides[..., 2:]], -1).clamp(0, 1)
        center = (inverse_sigmoid(place) + _by_pixel(self.center2d(at_box))).sigmoid()
        return FocalMaps(_by_pixel(self.cls(at_class)), _by_pixel(self.centerness(at_class))[..., 0], corners, center)

    def _places(self, features: Tensor) -> Tensor:
        """(S, 2) x, y of the pixels' middles as shares of the picture."""
        height, width = features.shape[-2:]
        x = (torch.arange(width, device=features.device) + 0.5) / width
        y = (torch.arange(height, device=features.device) + 0.5) / height
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)

    def targets(self, batch: Batch, boxes: Sequence[Boxes3D]) -> list[PictureBoxes]:
        """What each of the B * N pictures shows, drawn up once a batch."""
        key = "picture_boxes"
        if key not in batch.derived:
            size_px = batch.rig.image_size_px
            pairs = zip(boxes, batch.rig.img_from_ref)
            batch.derived[key] = [shown for b, cameras in pairs for shown in picture_boxes(b, cameras, size_px)]
        found: list[PictureBoxes] = batch.derived[key]
        return found

    def counts(self, batch: Batch, boxes: Sequence[Boxes3D]) -> dict[str, Tensor]:
        """``picture_boxes``: seen in all pictures, scalar."""
        total = sum(len(shown.label) for shown in self.targets(batch, boxes))
        return {"picture_boxes": torch.tensor(float(total), device=batch.rig.device)}

    def loss(
        self, maps: FocalMaps, targets: Sequence[PictureBoxes], size_px: tuple[int, int], avg_factor: Tensor
    ) -> dict[str, Tensor]:
        """``picture.loss_cls``, ``_bbox``, ``_giou``, ``_center`` and ``_centerness``, scalars.

        Args:
            maps: of :meth:`forward`.
            targets: of :meth:`targets`.
            size_px: (H, W) of the pictures.
            avg_factor: what to divide by, the entry of :meth:`counts`.
        """
        count = avg_factor.clamp(min=1)
        scale = maps.corners.new_tensor([size_px[1], size_px[0]] * 2)
        quality = torch.zeros_like(maps.logits)
        found, wanted, found_center, wanted_center = [], [], [], []
        for picture, shown in enumerate(targets):
            pixel, box = self._matched(maps, picture, shown, size_px)
            corners, target = maps.corners[picture, pixel], shown.corners_px[box] / scale
            quality[picture, pixel, shown.label[box]] = overlap(corners.detach() * scale, target * scale)
            found.append(corners)
            wanted.append(target)
            found_center.append(maps.center[picture, pixel])
            wanted_center.append(shown.center_px[box] / scale[:2])
        corners, target = torch.cat(found), torch.cat(wanted)
        centers = torch.cat(found_center), torch.cat(wanted_center)
        size = to_center_size(corners), to_center_size(target)
        heatmap = torch.stack([self._heatmap(shown, size_px) for shown in targets])
        centerness = gaussian_focal_loss(maps.centerness, heatmap.flatten(1)) / count
        return {
            "picture.loss_cls": self.loss_cls(maps.logits.flatten(0, 1), quality.flatten(0, 1), avg_factor=count),
            "picture.loss_bbox": self.loss_bbox(*size, avg_factor=count),
            "picture.loss_giou": self.loss_giou(corners * scale, target * scale, avg_factor=count),
            "picture.loss_center": self.loss_center(*centers, avg_factor=count),
            "picture.loss_centerness": self.weights["centerness"] * centerness,
        }

    @torch.no_grad()
    def _matched(
        self, maps: FocalMaps, picture: int, shown: PictureBoxes, size_px: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Pixels and the boxes they are matched with."""
        scale = maps.corners.new_tensor([size_px[1], size_px[0]] * 2)
        corners_px = maps.corners[picture] * scale
        cost = self.assigner.cost(maps.logits[picture], corners_px, shown.label, shown.corners_px, size_px)
        apart = torch.cdist(maps.center[picture], shown.center_px / scale[:2], p=1)
        return least_cost_pairs(cost + self.weights["center"] * apart)

    def _heatmap(self, shown: PictureBoxes, size_px: tuple[int, int]) -> Tensor:
        """(H / stride, W / stride) Gaussians at the centres, as wide as the way to the nearest side."""
        height, width = (side // self.stride_px for side in size_px)
        to_sides = torch.cat(
            [shown.center_px - shown.corners_px[:, :2], shown.corners_px[:, 2:] - shown.center_px], 1
        )
        radius = (to_sides.amin(1) / self.stride_px).ceil().clamp(min=1).long()
        cell = (shown.center_px / self.stride_px).long()
        cell = torch.stack([cell[:, 0].clamp(max=width - 1), cell[:, 1].clamp(max=height - 1)], 1)
        return draw_heatmap(cell, radius, torch.zeros_like(radius), (1, height, width))[0]


def _shared(channels: int) -> nn.Sequential:
    groups = math.gcd(32, channels)  # 32 as published
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(groups, channels), nn.ReLU())


def _by_pixel(maps: Tensor) -> Tensor:
    """(P, K, H, W) -> (P, H * W, K) float32."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2).float()


@torch.no_grad()
def picture_boxes(boxes: Boxes3D, img_from_ref: Tensor, size_px: tuple[int, int]) -> list[PictureBoxes]:
    """2D boxes of 3D boxes, as StreamPETR's training data has them.

    A box's rectangle spans the projections of those of its corners that are in front of the camera, cut at the border
    of the picture (the published one is the hull's intersection with the picture, no larger). Rectangles under 2 px and
    those that nearer ones cover whole are left out, and so is what has its centre less than 10 cm before the camera.

    Args:
        boxes: of one frame.
        img_from_ref: (N, 4, 4).
        size_px: (H, W) of the pictures.

    Returns:
        One entry a camera.
    """
    height, width = size_px
    corners_px, depth_m = project(boxes.corners_m().flatten(0, 1), img_from_ref)
    corners_px, ahead = (x.unflatten(1, (len(boxes), 8)) for x in (corners_px, depth_m > 0))
    center_px, center_m = project(boxes.center_m, img_from_ref)
    border = center_px.new_tensor([width, height])
    low = torch.where(ahead[..., None], corners_px, torch.inf).amin(2).clamp(min=0)
    high = torch.minimum(torch.where(ahead[..., None], corners_px, -torch.inf).amax(2), border)
    seen = (center_m > _NEAREST_M) & ((high - low) >= _SMALLEST_PX).all(-1)
    found = []
    for camera in range(len(img_from_ref)):
        index = seen[camera].nonzero().squeeze(1)
        rectangles = torch.cat([low[camera, index], high[camera, index]], 1)
        index_kept = _uncovered(rectangles, center_m[camera, index], size_px)
        index, rectangles = index[index_kept], rectangles[index_kept]
        center = torch.minimum(center_px[camera, index].clamp(min=0), border)
        found.append(PictureBoxes(rectangles, center, boxes.label[index]))
    return found


def _uncovered(rectangles: Tensor, depth_m: Tensor, size_px: tuple[int, int]) -> Tensor:
    """(M,) bool: some whole pixel of the rectangle is not in a nearer one.

    The published code paints onto zeros and so keeps the farthest rectangle wherever it is; here it is no exception.
    """
    painted = np.full(size_px, -1, dtype=np.int64)
    low, high = rectangles[:, :2].ceil(), rectangles[:, 2:].floor()
    corners = torch.cat([low, high], 1).cpu().numpy().astype(np.int64)
    for box in depth_m.argsort(descending=True).tolist():
        left, top, right, bottom = corners[box]
        painted[top:bottom, left:right] = box
    return F.one_hot(torch.from_numpy(np.unique(painted) + 1), len(corners) + 1).sum(0)[1:].bool().to(rectangles.device)
