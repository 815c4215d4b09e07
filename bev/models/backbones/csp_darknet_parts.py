"""What CSP networks are made of, with the official YOLOX parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.conv_module import BN, Activation, build_activation
from bev.models.strided_conv import conv2d

# Official weights were trained with these.
YOLOX_NORM = BN(eps=1e-3, momentum=0.03)


class BaseConv(nn.Module):
    """``conv`` without bias, ``bn``, activation; "same" padding."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = "silu",
    ) -> None:
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, kernel_size, stride, (kernel_size - 1) // 2, groups, bias=False)
        self.bn = YOLOX_NORM.build(out_channels)
        self.act = nn.Identity() if activation is None else build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.bn(self.conv(x)))


class DWConv(nn.Module):
    """``dconv`` depthwise, then ``pconv`` 1x1."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, activation: Activation = "silu"
    ) -> None:
        super().__init__()
        self.dconv = BaseConv(in_channels, in_channels, kernel_size, stride, in_channels, activation)
        self.pconv = BaseConv(in_channels, out_channels, 1, 1, 1, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.pconv(self.dconv(x))


def spatial_conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, depthwise: bool, activation: Activation
) -> nn.Module:
    """A BaseConv, or a DWConv where asked."""
    if depthwise:
        return DWConv(in_channels, out_channels, kernel_size, stride, activation)
    return BaseConv(in_channels, out_channels, kernel_size, stride, activation=activation)


class Focus(nn.Module):
    """Every second pixel into channels: (B, C, H, W) -> (B, 4 C, H / 2, W / 2), then a convolution.

    Order: upper left, lower left, upper right, lower right.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, activation: Activation) -> None:
        super().__init__()
        self.conv = BaseConv(4 * in_channels, out_channels, kernel_size, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) with even H and W -> (B, out_channels, H / 2, W / 2)."""
        parts = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(parts, 1))


class SixConv(nn.Module):
    """A 6x6 convolution of stride 2: what :class:`Focus` with a 3x3 one computes, without moving pixels first."""

    def __init__(self, out_channels: int, activation: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, out_channels, 6, 2, 2, bias=False)
        self.bn = YOLOX_NORM.build(out_channels)
        self.act = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, out_channels, H / 2, W / 2)."""
        return self.act(self.bn(self.conv(x)))


class SPPBottleneck(nn.Module):
    """Maxima over windows of several sizes beside the map (He et al., ECCV 2014), between two 1x1 convolutions."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_sizes: Sequence[int], activation: Activation
    ) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.conv1 = BaseConv(in_channels, hidden, 1, activation=activation)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in kernel_sizes)
        self.conv2 = BaseConv(hidden * (len(kernel_sizes) + 1), out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


class SPPF(nn.Module):
    """:class:`SPPBottleneck` with windows 5, 9 and 13 as a chain of three windows of 5: the same maxima, sooner."""

    def __init__(self, in_channels: int, out_channels: int, activation: Activation) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.conv1 = BaseConv(in_channels, hidden, 1, activation=activation)
        self.m = nn.MaxPool2d(5, 1, 2)
        self.conv2 = BaseConv(4 * hidden, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        maps = [self.conv1(x)]
        for _ in range(3):
            maps.append(self.m(maps[-1]))
        return self.conv2(torch.cat(maps, 1))


class Bottleneck(nn.Module):
    """1x1 (or another ``first`` kernel), then 3x3, and a shortcut where asked."""

    def __init__(
        self, channels: int, shortcut: bool, depthwise: bool, activation: Activation, first: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = BaseConv(channels, channels, first, activation=activation)
        self.conv2 = spatial_conv(channels, channels, 3, 1, depthwise, activation)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        result: Tensor = self.conv2(self.conv1(x))
        return result + x if self.shortcut else result


class CSPLayer(nn.Module):
    """Two halves of the width, one through bottlenecks, joined by a 1x1 convolution (CSPNet, CVPRW 2020).

    Args:
        in_channels, out_channels: of the layer.
        count: bottlenecks.
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
        self.conv1 = BaseConv(in_channels, hidden, 1, activation=activation)
        self.conv2 = BaseConv(in_channels, hidden, 1, activation=activation)
        self.conv3 = BaseConv(2 * hidden, out_channels, 1, activation=activation)
        self.m = nn.Sequential(*(Bottleneck(hidden, shortcut, depthwise, activation) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        through, past = self.conv1(x), self.conv2(x)
        return self.conv3(torch.cat([self.m(through), past], 1))
