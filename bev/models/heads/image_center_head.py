"""Object centres and depth, pixel by pixel: the auxiliary view from which queries can be seeded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.geometry.frustum import DepthBins
from bev.geometry.projection import in_image, project, unproject
from bev.geometry.rays import RAY_CHANNELS, pixel_rays
from bev.models.conv_module import ConvModule
from bev.models.heads.center_targets import draw_heatmap, gaussian_radius
from bev.models.losses.gaussian_focal import gaussian_focal_loss
from bev.models.view.ground_prior import GroundPrior
from bev.registry import MODELS
from bev.structures import Batch, Boxes3D, CameraRig

_HEATMAP_BIAS = -2.19  # sigmoid = 0.1, as in CenterNet
_MIN_OVERLAP = 0.3  # of a 2D box with itself, shifted by the Gaussian's radius


class CenterMaps(NamedTuple):
    """Raw outputs at stride s.

    Attributes:
        heatmap: (B, N, K, H, W) logits of a box's centre of each class.
        offset: (B, N, 2, H, W) from a pixel's centre to the box's projected centre, in pixels of the map.
        log_depth: (B, N, H, W) log m of the box's centre.
        depth_logits: (B, N, H, W, D) of the surface that the pixel shows.
    """

    heatmap: Tensor
    offset: Tensor
    log_depth: Tensor
    depth_logits: Tensor


class CenterTargets(NamedTuple):
    """Ground truth of one frame: heatmap (N, K, H, W), and for V visible centres the camera, row and column (V,),
    the offset (V, 2) and the log depth (V,)."""

    heatmap: Tensor
    camera: Tensor
    row: Tensor
    column: Tensor
    offset: Tensor
    log_depth: Tensor


class Seeds(NamedTuple):
    """The highest peaks of each frame's cameras.

    Attributes:
        point_m: (B, S, 3) in the reference frame.
        label: (B, S) class of the peak.
        probability: (B, S, K) of every class there.
        pixel: (B, S) flat index into (N, H, W).
    """

    point_m: Tensor
    label: Tensor
    probability: Tensor
    pixel: Tensor


@MODELS.register_module()
class ImageCenterHead(nn.Module):
    """CenterNet-like class heatmaps with the centre's depth (Zhou et al., arXiv 1904.07850), and a depth distribution.

    Args:
        in_channels, hidden_channels: of the map and of one 3x3 convolution.
        num_classes: K.
        depth_bins: D intervals of the depth distribution.
        stride_px: network px per pixel of the map.
        ground_m: height of a flat ground in the reference frame where depth shall start from (see ``GroundPrior``).
    """

    log_depth: Tensor

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        depth_bins: DepthBins,
        stride_px: int,
        ground_m: float | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.depth_bins, self.stride_px = num_classes, depth_bins, stride_px
        self.register_buffer("log_depth", depth_bins.centers_m().log(), persistent=False)
        self.ground = None if ground_m is None else GroundPrior(ground_m, depth_bins, stride_px)
        self.hidden = ConvModule(in_channels + RAY_CHANNELS, hidden_channels)
        self.output = nn.Conv2d(hidden_channels, num_classes + 3 + len(depth_bins), 1)
        with torch.no_grad():
            self.output.bias.zero_()  # type: ignore[union-attr]
            self.output.bias[:num_classes] = _HEATMAP_BIAS  # type: ignore[index]

    def forward(self, features: Tensor, rig: CameraRig) -> CenterMaps:
        """(B, N, C, H, W) features and the rig with batch axis -> maps, float32."""
        rays = pixel_rays(rig, self.stride_px).to(features.dtype)
        known = torch.cat([features.permute(0, 1, 3, 4, 2), rays.permute(0, 1, 3, 4, 2)], -1).permute(0, 1, 4, 2, 3)
        maps = self.output(self.hidden(known.flatten(0, 1))).float().unflatten(0, features.shape[:2])
        heatmap, offset, behind, depth = maps.split([self.num_classes, 2, 1, len(self.depth_bins)], 2)
        depth = depth.permute(0, 1, 3, 4, 2)
        if self.ground is not None:
            depth = depth + self.ground(rig)
        # A box's centre lies a little behind the surface, which every LiDAR point teaches and a few centres do not.
        return CenterMaps(heatmap, offset, self._surface_log_depth(depth.detach()) + behind.squeeze(2), depth)

    def _surface_log_depth(self, depth_logits: Tensor) -> Tensor:
        """(..., D) -> (...,) mean log depth around the likeliest bin; a mean over all bins would fall between modes."""
        bins = torch.arange(depth_logits.shape[-1], device=depth_logits.device)
        near = (bins - depth_logits.argmax(-1, keepdim=True)).abs() <= 2
        probability = depth_logits.masked_fill(~near, -torch.inf).softmax(-1)
        return (probability * self.log_depth).sum(-1)

    def seeds(self, maps: CenterMaps, rig: CameraRig, count: int) -> Seeds:
        """The ``count`` highest local maxima of all cameras (then the highest other pixels), lifted with the depth
        predicted for them. Not differentiable."""
        heat = maps.heatmap.detach().sigmoid()
        score, label = heat.max(2)
        # What is no maximum comes after all that are, in its own order: equal scores would be chosen by chance.
        score = torch.where(F.max_pool2d(score, 3, 1, 1) == score, score, score - 1)
        pixel = score.flatten(1).topk(min(count, score[0].numel())).indices
        cameras, height, width = score.shape[1:]
        camera, row, column = pixel // (height * width), pixel // width % height, pixel % width
        batch = torch.arange(pixel.shape[0], device=pixel.device)[:, None]
        offset = maps.offset.detach()[batch, camera, :, row, column]
        probability = heat[batch, camera, :, row, column]
        pixels_px = (torch.stack([column, row], -1) + 0.5 + offset) * self.stride_px
        depth_m = maps.log_depth.detach()[batch, camera, row, column].clamp(0, 5).exp()
        point_m = unproject(pixels_px, depth_m, rig.ref_from_img[batch, camera])
        return Seeds(point_m, label.flatten(1).gather(1, pixel), probability, pixel)

    def evidence(
        self, boxes: Boxes3D, heatmap: Tensor, img_from_ref: Tensor, image_size_px: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What the images of one frame say of boxes.

        Args:
            boxes: M boxes of the reference frame.
            heatmap: (N, K, H, W) probabilities.
            img_from_ref: (N, 4, 4).
            image_size_px: (H, W) of the network's images.

        Returns:
            (M,) bool whether any camera sees the centre, and (M,) the highest probability of the box's class within a
            pixel of the map around its projections.
        """
        batched = boxes.center_m[None], boxes.label[None], heatmap[None], img_from_ref[None]
        seen, probability = self.evidence_at(*batched, image_size_px)
        return seen[0], probability[0]

    def evidence_at(
        self, center_m: Tensor, label: Tensor, heatmap: Tensor, img_from_ref: Tensor, image_size_px: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """:meth:`evidence` of B frames: (B, M, 3), (B, M), (B, N, K, H, W) and (B, N, 4, 4) -> two (B, M)."""
        nearby = F.max_pool2d(heatmap.float().flatten(0, 1), 3, 1, 1).unflatten(0, heatmap.shape[:2]).flatten(1)
        center_px, depth_m = project(center_m, img_from_ref)
        seen = in_image(center_px, depth_m, image_size_px)
        cameras, classes, height, width = heatmap.shape[1:]
        column, row = (center_px.clamp(-1e6, 1e6) / self.stride_px).long().unbind(-1)
        channel = torch.arange(cameras, device=heatmap.device)[:, None] * classes + label[:, None]
        pixel = (channel * height + row.clamp(0, height - 1)) * width + column.clamp(0, width - 1)
        probability = nearby.gather(1, pixel.flatten(1)).view(seen.shape)
        return seen.any(1), torch.where(seen, probability, 0.0).amax(1)

    def batch_targets(self, batch: Batch, boxes: Sequence[Boxes3D]) -> list[CenterTargets]:
        """:meth:`targets` of each frame of a batch, computed once for its counts and its losses."""
        key = f"image_centers_{self.stride_px}"
        if key not in batch.derived:
            pairs = zip(boxes, batch.rig.img_from_ref)
            batch.derived[key] = [self.targets(b, projection, batch.rig.image_size_px) for b, projection in pairs]
        return batch.derived[key]

    def targets(self, boxes: Boxes3D, img_from_ref: Tensor, image_size_px: tuple[int, int]) -> CenterTargets:
        """Ground truth of one frame, (N, 4, 4) projection -> targets of its cameras."""
        height, width = (size // self.stride_px for size in image_size_px)
        cameras = len(img_from_ref)
        center_px, depth_m = project(boxes.center_m, img_from_ref)
        visible = in_image(center_px, depth_m, (height * self.stride_px, width * self.stride_px))
        camera, box = visible.nonzero(as_tuple=True)
        xy = center_px[camera, box] / self.stride_px
        column, row = xy.long().unbind(-1)
        radius = self._radius(boxes, img_from_ref)[camera, box]
        cell_xy, maps = torch.stack([column, row], -1), camera * self.num_classes + boxes.label[box]
        heatmap = draw_heatmap(cell_xy, radius, maps, (cameras * self.num_classes, height, width))
        offset = xy - cell_xy - 0.5
        heatmap = heatmap.unflatten(0, (cameras, self.num_classes))
        return CenterTargets(heatmap, camera, row, column, offset, depth_m[camera, box].log())

    def _radius(self, boxes: Boxes3D, img_from_ref: Tensor) -> Tensor:
        """(N, M) int64 radius of each box's Gaussian from the size of its projection, in pixels of the map."""
        corners_px, depth_m = project(boxes.corners_m().flatten(0, 1), img_from_ref)
        corners = (corners_px / self.stride_px).unflatten(1, (len(boxes), 8))
        size = (corners.amax(2) - corners.amin(2)).clamp(min=1, max=30)  # corners behind the camera lie anywhere
        return gaussian_radius(size[..., 1], size[..., 0], _MIN_OVERLAP).round().long().clamp(min=1)

    def loss(self, maps: CenterMaps, targets: Sequence[CenterTargets], avg_factor: Tensor) -> dict[str, Tensor]:
        """``loss_heatmap`` and ``loss_center`` (offset and log depth at the centres), divided by ``avg_factor``."""
        heat = gaussian_focal_loss(maps.heatmap, torch.stack([t.heatmap for t in targets]))
        center = maps.offset.new_zeros(())
        for sample, t in enumerate(targets):
            offset = maps.offset[sample][t.camera, :, t.row, t.column]
            log_depth = maps.log_depth[sample][t.camera, t.row, t.column]
            center = center + F.l1_loss(offset, t.offset, reduction="sum")
            center = center + F.l1_loss(log_depth, t.log_depth, reduction="sum")
        scale = 1 / avg_factor.clamp(min=1)
        return {"loss_heatmap": heat * scale, "loss_center": center * scale}
