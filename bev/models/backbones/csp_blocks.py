"""Layers of one shape that stand for each other in CSP networks: CSP (C3), C2f, ELAN, and slim-neck's GSConv form."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from bev.models.backbones.csp_darknet_parts import BaseConv, Bottleneck, CSPLayer, spatial_conv
from bev.models.backbones.shufflenet import shuffle_channels
from bev.models.conv_module import Activation

Block = Literal["csp", "c2f", "elan", "gsconv"]


class C2f(nn.Module):
    """Every bottleneck's result is kept and joined with both halves (the layer of YOLOv8).

    Args:
        in_channels, out_channels: of the layer.
        count: bottlenecks, of two 3x3 convolutions each.
        shortcut, depthwise, activation: of the bottlenecks.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        count: int = 1,
        shortcut: bool = True,
        depthwise: bool = False,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = BaseConv(in_channels, 2 * hidden, 1, activation=activation)
        self.conv2 = BaseConv((2 + count) * hidden, out_channels, 1, activation=activation)
        self.m = nn.ModuleList(Bottleneck(hidden, shortcut, depthwise, activation, first=3) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        maps = list(self.conv1(x).chunk(2, 1))
        for block in self.m:
            maps.append(block(maps[-1]))
        return self.conv2(torch.cat(maps, 1))


class ELANLayer(nn.Module):
    """Two 1x1 ways, one of them on through 3x3 convolutions; all are joined (arXiv 2207.02696, figure 2c).

    Args:
        in_channels, out_channels: of the layer.
        hidden: width of the ways.
        steps: results of the long way that are joined besides its beginning.
        convs: 3x3 convolutions from one of them to the next.
        depthwise, activation: of the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int,
        steps: int = 2,
        convs: int = 2,
        depthwise: bool = False,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.conv1 = BaseConv(in_channels, hidden, 1, activation=activation)
        self.conv2 = BaseConv(in_channels, hidden, 1, activation=activation)
        self.m = nn.ModuleList(
            nn.Sequential(*(spatial_conv(hidden, hidden, 3, 1, depthwise, activation) for _ in range(convs)))
            for _ in range(steps)
        )
        self.conv3 = BaseConv((2 + steps) * hidden, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        maps = [self.conv1(x), self.conv2(x)]
        for step in self.m:
            maps.append(step(maps[-1]))
        return self.conv3(torch.cat(maps, 1))


class GSConv(nn.Module):
    """Half of the channels by a convolution, the others by a depthwise 5x5 one of them, mixed (arXiv 2206.02424).

    Of the two halves side by side the even channels come first, then the odd ones.

    Args:
        in_channels, out_channels, kernel_size, stride, activation: as of a convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        activation: Activation | None = "silu",
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = BaseConv(in_channels, half, kernel_size, stride, activation=activation)
        self.conv2 = BaseConv(half, half, 5, 1, half, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        dense = self.conv1(x)
        both = torch.cat([dense, self.conv2(dense)], 1)
        return shuffle_channels(both, both.shape[1] // 2)


class GSBottleneck(nn.Module):
    """Two :class:`GSConv` beside a 1x1 convolution."""

    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        self.conv1 = GSConv(channels, channels, 1, 1, activation)
        self.conv2 = GSConv(channels, channels, 3, 1, None)
        self.shortcut = BaseConv(channels, channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        result: Tensor = self.conv2(self.conv1(x)) + self.shortcut(x)
        return result


class GSCSPLayer(nn.Module):
    """A :class:`CSPLayer` of :class:`GSBottleneck` (VoV-GSCSP of slim-neck, arXiv 2206.02424, figure 4)."""

    def __init__(self, in_channels: int, out_channels: int, count: int = 1, activation: Activation = "silu") -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = BaseConv(in_channels, hidden, 1, activation=activation)
        self.conv2 = BaseConv(in_channels, hidden, 1, activation=activation)
        self.conv3 = BaseConv(2 * hidden, out_channels, 1, activation=activation)
        self.m = nn.Sequential(*(GSBottleneck(hidden, activation) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        return self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], 1))


def cross_stage(
    kind: Block,
    in_channels: int,
    out_channels: int,
    count: int,
    shortcut: bool,
    depthwise: bool,
    activation: Activation,
) -> nn.Module:
    """A layer of that kind. Raises ValueError for another kind."""
    if kind not in get_args(Block):
        raise ValueError(f"block {kind!r} is not one of {', '.join(get_args(Block))}")
    if kind == "elan":
        return ELANLayer(in_channels, out_channels, out_channels // 2, count, 2, depthwise, activation)
    if kind == "gsconv":
        return GSCSPLayer(in_channels, out_channels, count, activation)
    layer = CSPLayer if kind == "csp" else C2f
    return layer(in_channels, out_channels, count, shortcut, depthwise, activation)
