"""Task-aligned head: one tower, two tasks that attend to its layers, and moved boxes (TOOD, ICCV 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.conv_module import ConvModule, Norm
from bev.models.heads.dense.common import Maps, Scale, start_predictor
from bev.ops.deform_conv import deform_conv2d
from bev.registry import MODELS


class TaskDecomposition(nn.Module):
    """Layer attention from the mean of the features, and a 1x1 convolution of the weighted layers.

    Args:
        channels: of one layer, and of the result.
        layers: number of layers.
        reduction: how much narrower the attention's hidden layer is than all layers together.
        norm: after the convolution.
    """

    def __init__(self, channels: int, layers: int, reduction: int, norm: Norm | None) -> None:
        super().__init__()
        total = channels * layers
        self.layer_attention = nn.Sequential(
            nn.Conv2d(total, max(1, total // reduction), 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(max(1, total // reduction), layers, 1),
            nn.Sigmoid(),
        )
        self.reduction_conv = ConvModule(total, channels, 1, norm=norm)
        for module in self.layer_attention:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.reduction_conv.conv.weight, std=0.01)

    def forward(self, stacked: Tensor, mean: Tensor) -> Tensor:
        """(B, layers * C, H, W), their mean (B, layers * C, 1, 1) -> (B, C, H, W)."""
        weight = self.layer_attention(mean)
        layers = weight.shape[1]
        weighted = stacked.unflatten(1, (layers, -1)) * weight.unsqueeze(2)
        return self.reduction_conv(weighted.flatten(1, 2))


@MODELS.register_module()
class AlignedTowers(nn.Module):
    """Probabilities ``sqrt(sigmoid(class) sigmoid(aligned))`` and corners in strides, each side read at an offset.

    Args:
        num_classes: of the scores.
        in_channels: of every level; the tower has ``feat_channels``.
        num_levels: number of levels.
        feat_channels, stacked_convs: width and depth of the tower.
        norm: in the tower.
        offset: of the points that distances are measured from, in cells (0: the cells' corners).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_levels: int = 5,
        feat_channels: int = 256,
        stacked_convs: int = 6,
        norm: Norm | None = None,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        self.offset = offset
        total = feat_channels * stacked_convs
        widths = [in_channels, *[feat_channels] * stacked_convs]
        convs = [ConvModule(a, b, norm=norm) for a, b in zip(widths[:-1], widths[1:])]
        for conv in convs:
            nn.init.normal_(conv.conv.weight, std=0.01)
        self.inter_convs = nn.ModuleList(convs)
        self.cls_decomp = TaskDecomposition(feat_channels, stacked_convs, stacked_convs * 8, norm)
        self.reg_decomp = TaskDecomposition(feat_channels, stacked_convs, stacked_convs * 8, norm)
        self.conv_cls = nn.Conv2d(feat_channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(feat_channels, 4, 3, padding=1)
        start_predictor([self.conv_cls], 0.01)
        start_predictor([self.conv_reg])
        cls_last, offset_last = (nn.Conv2d(feat_channels // 4, values, 3, padding=1) for values in (1, 8))
        start_predictor([cls_last], 0.01)
        # Boxes begin where they are: no offsets.
        start_predictor([offset_last], std=0.001)
        self.cls_prob_module = self._branch(total, cls_last)
        self.reg_offset_module = self._branch(total, offset_last)
        self.scales = nn.ModuleList(Scale() for _ in range(num_levels))

    @staticmethod
    def _branch(in_channels: int, last: nn.Conv2d) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(in_channels, last.in_channels, 1), nn.ReLU(inplace=True), last)

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, in_channels, H_l, W_l) -> ``cls`` (probabilities) and ``box`` (corners in strides)."""
        maps: Maps = {"cls": [], "box": []}
        for x, scale in zip(features, self.scales):
            layers = []
            for conv in self.inter_convs:
                x = conv(x)
                layers.append(x)
            stacked = torch.cat(layers, 1)
            mean = stacked.mean((2, 3), keepdim=True)
            logits, aligned = self.conv_cls(self.cls_decomp(stacked, mean)), self.cls_prob_module(stacked)
            maps["cls"].append((0.5 * (F.logsigmoid(logits.float()) + F.logsigmoid(aligned.float()))).exp())
            distance = scale(self.conv_reg(self.reg_decomp(stacked, mean)).exp()).float()
            maps["box"].append(self._move(self._corners(distance), self.reg_offset_module(stacked)))
        return maps

    def _corners(self, distance: Tensor) -> Tensor:
        """(B, 4, H, W) distances -> corners, both in strides."""
        height, width = distance.shape[-2:]
        row = torch.arange(height, dtype=distance.dtype, device=distance.device)[:, None] + self.offset
        column = torch.arange(width, dtype=distance.dtype, device=distance.device) + self.offset
        left, top, right, bottom = distance.unbind(1)
        return torch.stack([column - left, row - top, column + right, row + bottom], 1)

    @staticmethod
    def _move(boxes: Tensor, offset: Tensor) -> Tensor:
        """Each side from where its offset (y, x in cells) points; boxes that this turns inside out stay."""
        ones = boxes.new_ones(4, 1, 1, 1)
        mask = boxes.new_ones(boxes.shape)
        moved = deform_conv2d(boxes, offset, mask, ones, groups=4)
        inverted = (moved[:, 0] > moved[:, 2]) | (moved[:, 1] > moved[:, 3])
        return torch.where(inverted[:, None], boxes, moved)
