"""The top-down necks of YOLOv3 and YOLOv3-tiny (arXiv 1804.02767, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.backbones.darknet import dark_conv
from bev.registry import MODELS


class DetectionBlock(nn.Module):
    """1x1 and 3x3 in turn, five convolutions; named as mmdet's."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = dark_conv(in_channels, out_channels, 1)
        self.conv2 = dark_conv(out_channels, 2 * out_channels, 3)
        self.conv3 = dark_conv(2 * out_channels, out_channels, 1)
        self.conv4 = dark_conv(out_channels, 2 * out_channels, 3)
        self.conv5 = dark_conv(2 * out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        result: Tensor = self.conv5(self.conv4(self.conv3(self.conv2(self.conv1(x)))))
        return result


@MODELS.register_module()
class YOLOv3Neck(nn.Module):
    """Each level joined with what was found one level coarser; parameters named as mmdet's ``YOLOV3Neck``.

    Args:
        in_channels: of the maps, finest first.
        out_channels: of the levels, finest first; published: 128, 256, 512.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        if len(in_channels) != len(out_channels) or not in_channels:
            raise ValueError(f"YOLOv3Neck: {len(in_channels)} maps but {len(out_channels)} levels")
        self.levels = len(in_channels)
        inputs, outputs = list(in_channels)[::-1], list(out_channels)[::-1]
        self.detect1 = DetectionBlock(inputs[0], outputs[0])
        for number in range(1, self.levels):
            self.add_module(f"conv{number}", dark_conv(outputs[number - 1], outputs[number], 1))
            joined = inputs[number] + outputs[number]
            self.add_module(f"detect{number + 1}", DetectionBlock(joined, outputs[number]))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l), finest first, each half the last -> as many levels, finest first."""
        found = [self.detect1(maps[-1])]
        for number in range(1, self.levels):
            raised = F.interpolate(getattr(self, f"conv{number}")(found[-1]), scale_factor=2.0, mode="nearest")
            joined = torch.cat([raised, maps[-1 - number]], 1)
            found.append(getattr(self, f"detect{number + 1}")(joined))
        return found[::-1]


@MODELS.register_module()
class TinyYOLOv3Neck(nn.Module):
    """A 1x1 convolution of the coarse map, and the fine one with its double beside it.

    Args:
        in_channels: of the fine and the coarse map.
        out_channels: of the coarse level; half of it is added to the fine one.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        fine, coarse = in_channels
        self.reduce = dark_conv(coarse, out_channels, 1)
        self.raise_ = dark_conv(out_channels, out_channels // 2, 1)
        self.out_channels = [fine + out_channels // 2, out_channels]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Fine and coarse map -> fine and coarse level."""
        coarse = self.reduce(maps[1])
        raised = F.interpolate(self.raise_(coarse), scale_factor=2.0, mode="nearest")
        return [torch.cat([raised, maps[0]], 1), coarse]
