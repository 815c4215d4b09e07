"""Path aggregation of one narrow width with depthwise convolutions, and a fourth level (PicoDet, arXiv 2111.00902).

Parameters are named as in PaddleDetection's CSPPAN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.conv_module import Activation, ConvModule, build_activation
from bev.models.strided_conv import conv2d
from bev.registry import MODELS


class DepthwisePair(nn.Module):
    """A depthwise and a 1x1 convolution of one width, each with norm and activation."""

    def __init__(self, channels: int, kernel_size: int, stride: int = 1, activation: Activation = "hardswish") -> None:
        super().__init__()
        self.dwconv = conv2d(channels, channels, kernel_size, stride, kernel_size // 2, channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pwconv = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.activation = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        x = self.activation(self.bn1(self.dwconv(x)))
        result: Tensor = self.activation(self.bn2(self.pwconv(x)))
        return result


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, kernel_size: int, activation: Activation) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, 1, activation=activation)
        self.conv2 = DepthwisePair(channels, kernel_size, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv2(self.conv1(x))
        return result


class LightCSP(nn.Module):
    """Two 1x1 ways, one of them on through a bottleneck with a depthwise convolution; joined (figure 2, CSP-PAN)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, activation: Activation) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.main_conv = ConvModule(in_channels, hidden, 1, activation=activation)
        self.short_conv = ConvModule(in_channels, hidden, 1, activation=activation)
        self.blocks = nn.Sequential(_Bottleneck(hidden, kernel_size, activation))
        self.final_conv = ConvModule(2 * hidden, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        joined = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1)
        result: Tensor = self.final_conv(joined)
        return result


class _ToOneWidth(nn.Module):
    def __init__(self, in_channels: Sequence[int], out_channels: int, activation: Activation) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvModule(c, out_channels, 1, activation=activation) for c in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [conv(x) for conv, x in zip(self.convs, maps)]


@MODELS.register_module()
class LightPAN(nn.Module):
    """All maps to one width by 1x1 convolutions, top-down, bottom-up, and one level more (CSP-PAN, section 3.2).

    Args:
        in_channels: of the backbone's maps, finest first.
        out_channels: of all levels (published: 96 small, 128 medium, 160 large).
        kernel_size: of the depthwise convolutions.
        activation: everywhere.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 96,
        kernel_size: int = 5,
        activation: Activation = "hardswish",
    ) -> None:
        super().__init__()
        steps = range(len(in_channels) - 1)

        def down() -> DepthwisePair:
            return DepthwisePair(out_channels, kernel_size, 2, activation)

        def join() -> LightCSP:
            return LightCSP(2 * out_channels, out_channels, kernel_size, activation)

        self.conv_t = _ToOneWidth(in_channels, out_channels, activation)
        self.first_top_conv, self.second_top_conv = down(), down()
        self.top_down_blocks = nn.ModuleList(join() for _ in steps)  # the coarsest first
        self.downsamples = nn.ModuleList(down() for _ in steps)
        self.bottom_up_blocks = nn.ModuleList(join() for _ in steps)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l), finest first -> one level more than maps, (B, out_channels, H_l, W_l)."""
        inputs = self.conv_t(maps)
        levels = [inputs[-1]]
        for join, lower in zip(self.top_down_blocks, reversed(inputs[:-1])):
            raised = F.interpolate(levels[0], size=lower.shape[-2:], mode="nearest")
            levels.insert(0, join(torch.cat([raised, lower], 1)))
        outputs = [levels[0]]
        for down, join, level in zip(self.downsamples, self.bottom_up_blocks, levels[1:]):
            outputs.append(join(torch.cat([down(outputs[-1]), level], 1)))
        return [*outputs, self.first_top_conv(inputs[-1]) + self.second_top_conv(outputs[-1])]
