"""Darknet-53 (YOLOv3, arXiv 1804.02767) and the small network of YOLOv3-tiny."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.conv_module import ConvModule
from bev.registry import MODELS


def dark_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> ConvModule:
    """Convolution, batch norm, leaky ReLU of slope 0.1."""
    return ConvModule(in_channels, out_channels, kernel_size, stride, activation="leaky_relu")


class DarkBlock(nn.Module):
    """1x1 to half the width, 3x3 back, and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = dark_conv(channels, channels // 2, 1), dark_conv(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        result: Tensor = x + self.conv2(self.conv1(x))
        return result


@MODELS.register_module()
class Darknet53(nn.Module):
    """The backbone of YOLOv3, parameters named as mmdet's ``Darknet``.

    Args:
        out_stages: which of the five stages (strides 2 to 32) are returned, rising; the published neck takes 3 to 5.
        width: factor of the channels 64 to 1024.
        blocks: residual blocks of the stages.
    """

    def __init__(
        self, out_stages: Sequence[int] = (3, 4, 5), width: float = 1.0, blocks: Sequence[int] = (1, 2, 8, 8, 4)
    ) -> None:
        super().__init__()
        if not set(out_stages) <= set(range(1, 6)) or list(out_stages) != sorted(set(out_stages)) or len(blocks) != 5:
            raise ValueError(f"Darknet53 out_stages {tuple(out_stages)} must rise within 1 to 5, blocks be five")
        self.out_stages = tuple(out_stages)
        widths = [int(width * 32 * 2**stage) for stage in range(6)]
        self.conv1 = dark_conv(3, widths[0], 3)
        for stage, count in enumerate(blocks, start=1):
            layers = nn.Sequential()
            layers.add_module("conv", dark_conv(widths[stage - 1], widths[stage], 3, 2))
            for block in range(count):
                layers.add_module(f"res{block}", DarkBlock(widths[stage]))
            self.add_module(f"conv_res_block{stage}", layers)
        self.out_channels = [widths[stage] for stage in self.out_stages]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the maps of ``out_stages``, finest first."""
        x, maps = self.conv1(images), []
        for stage in range(1, max(self.out_stages) + 1):
            x = getattr(self, f"conv_res_block{stage}")(x)
            if stage in self.out_stages:
                maps.append(x)
        return maps


@MODELS.register_module()
class TinyDarknet(nn.Module):
    """The backbone of YOLOv3-tiny: seven 3x3 convolutions with 2x2 maxima between them.

    Args:
        width: factor of the channels 16 to 1024.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        widths = [int(width * c) for c in (16, 32, 64, 128, 256, 512, 1024)]
        self.convs = nn.ModuleList(dark_conv(a, b, 3) for a, b in zip([3, *widths], widths))
        self.out_channels = [widths[4], widths[6]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W multiples of 32 -> maps of strides 16 and 32."""
        x, fine = images, images
        for depth, conv in enumerate(self.convs):
            x = conv(x)
            if depth == 4:
                fine = x
            if depth < 5:
                x = F.max_pool2d(x, 2)
            elif depth == 5:
                # A maximum of stride 1 that looks right and down, as Darknet pads.
                x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 2, stride=1)
        return [fine, x]
