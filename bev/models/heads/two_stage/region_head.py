"""Classes and boxes of regions: features by RoIAlign, two fully connected layers, one box for each class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.coders.image_boxes import ImageBoxCoder
from bev.models.heads.dense.decoder import DenseDecoder
from bev.models.heads.two_stage.region_criterion import RegionCriterion, as_priors
from bev.ops.roi_align import roi_align
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class RegionFeatures(nn.Module):
    """RoIAlign of each region on the level made for its size (FPN, arXiv 1612.03144, equation 1).

    ``level = floor(log2(sqrt(area) / finest_px))``, bounded: regions up to twice ``finest_px`` lie on the finest level.

    Args:
        strides: of the levels that are used, px.
        output_size: bins of a side.
        finest_px: published: 56.
        sampling_ratio: as of :func:`roi_align`.
    """

    def __init__(
        self,
        strides: Sequence[int] = (4, 8, 16, 32),
        output_size: int = 7,
        finest_px: float = 56.0,
        sampling_ratio: int = 0,
    ) -> None:
        super().__init__()
        self.strides, self.output_size = tuple(strides), output_size
        self.finest_px, self.sampling_ratio = finest_px, sampling_ratio

    def levels(self, rois_px: Tensor) -> Tensor:
        """(R, 5) -> (R,) int64."""
        side = ((rois_px[:, 3] - rois_px[:, 1]) * (rois_px[:, 4] - rois_px[:, 2])).sqrt()
        return (side / self.finest_px + 1e-6).log2().floor().clamp(0, len(self.strides) - 1).long()

    def forward(self, features: Sequence[Tensor], rois_px: Tensor) -> Tensor:
        """Levels (B, C, H_l, W_l) and regions (R, 5), picture and corners -> (R, C, output_size, output_size)."""
        level, size = self.levels(rois_px), self.output_size
        result = features[0].new_zeros(len(rois_px), features[0].shape[1], size, size)
        for number, (stride, maps) in enumerate(zip(self.strides, features)):
            rows = (level == number).nonzero().flatten()
            pooled = roi_align(maps, rois_px[rows], size, 1 / stride, self.sampling_ratio)
            result = result.index_copy(0, rows, pooled)
        return result


@MODELS.register_module()
class SharedLayers(nn.Module):
    """Fully connected layers for classes and boxes together; names of mmdet's ``Shared2FCBBoxHead``.

    Args:
        num_classes: without background.
        in_channels, roi_size: of the regions' features.
        width: of the layers.
        depth: number of them.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 256, roi_size: int = 7, width: int = 1024, depth: int = 2
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        widths = [in_channels * roi_size**2, *[width] * depth]
        layers = [nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:])]
        self.shared_fcs = nn.ModuleList(layers)
        self.fc_cls, self.fc_reg = nn.Linear(widths[-1], num_classes + 1), nn.Linear(widths[-1], 4 * num_classes)
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)
        for last in (self.fc_cls, self.fc_reg):
            nn.init.zeros_(last.bias)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, S, S) -> logits (R, num_classes + 1), background last, and encoded boxes (R, num_classes, 4)."""
        x = regions.flatten(1)
        for layer in self.shared_fcs:
            x = F.relu(layer(x))
        return self.fc_cls(x), self.fc_reg(x).unflatten(1, (self.num_classes, 4))


@MODELS.register_module()
class RegionHead(nn.Module):
    """The second stage.

    Args:
        features: levels and regions -> features of the regions.
        network: those -> logits and boxes.
        box_coder: what the boxes mean, relative to the region.
        criterion: assigns, samples, gives the losses.
        decoder: threshold and suppression of the final boxes.
    """

    def __init__(
        self,
        features: RegionFeatures,
        network: SharedLayers,
        box_coder: ImageBoxCoder,
        criterion: RegionCriterion,
        decoder: DenseDecoder,
    ) -> None:
        super().__init__()
        self.features, self.network, self.box_coder = features, network, box_coder
        self.criterion, self.decoder = criterion, decoder

    def forward(self, levels: Sequence[Tensor], rois_px: Tensor) -> tuple[Tensor, Tensor]:
        """Levels and (R, 5) regions -> logits (R, C + 1) and encoded boxes (R, C, 4)."""
        logits, boxes = self.network(self.features(levels, rois_px))
        return logits, boxes

    def loss(
        self, levels: Sequence[Tensor], proposals: Sequence[Tensor], truth: Sequence[Boxes2D]
    ) -> dict[str, Tensor]:
        """Scalar loss terms; ``proposals`` (P_i, 4) px of every picture."""
        targets = self.criterion.targets(proposals, truth, self.network.num_classes)
        cls, box = self(levels, targets.rois_px)
        losses: dict[str, Tensor] = self.criterion(cls, box, targets, self.box_coder)
        return losses

    def predict(
        self, levels: Sequence[Tensor], proposals: Sequence[Tensor], sizes_px: Sequence[tuple[float, float]]
    ) -> list[Boxes2D]:
        """Boxes of every picture, network px, by falling score; ``sizes_px`` (H, W) without padding."""
        cls, box = self(levels, as_rois(proposals))
        counts = [len(p) for p in proposals]
        return [
            self._image(p, scores, values, size)
            for p, scores, values, size in zip(
                proposals, cls.float().softmax(-1).split(counts), box.split(counts), sizes_px
            )
        ]

    def _image(self, proposals: Tensor, scores: Tensor, values: Tensor, size_px: tuple[float, float]) -> Boxes2D:
        """One picture: every class of a region above the threshold is a box of its own."""
        decoded = self.box_coder.decode(as_priors(proposals), values.float().transpose(0, 1)).transpose(0, 1)
        row, label = (scores[:, :-1] > self.decoder.score_threshold).nonzero().unbind(1)
        return self.decoder.suppress(Boxes2D(decoded[row, label], label, scores[row, label]), size_px)


def as_rois(proposals: Sequence[Tensor]) -> Tensor:
    """(P_i, 4) of every picture -> (R, 5), the picture first."""
    return torch.cat([torch.cat([torch.full_like(p[:, :1], i), p], 1) for i, p in enumerate(proposals)])
