"""Convolution, batch norm and ReLU with the parameter names of mmcv's ConvModule."""

from __future__ import annotations

from torch import Tensor, nn


class ConvModule(nn.Module):
    """``conv`` (no bias where a norm follows), optional ``bn``, optional ReLU; "same" padding for odd kernels.

    Args:
        in_channels, out_channels, kernel_size, stride: of the convolution.
        norm: batch norm after it.
        activation: ReLU at the end.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        norm: bool = True,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=not norm)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        if norm:
            self.bn = nn.BatchNorm2d(out_channels)
        self.with_norm, self.with_activation = norm, activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        x = self.conv(x)
        if self.with_norm:
            x = self.bn(x)
        return nn.functional.relu(x, inplace=True) if self.with_activation else x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (1x1 where the shape changes)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvModule(in_channels, out_channels, 3, stride)
        self.conv2 = ConvModule(out_channels, out_channels, 3, activation=False)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else ConvModule(in_channels, out_channels, 1, stride, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H / stride, W / stride)."""
        return nn.functional.relu(self.conv2(self.conv1(x)) + self.shortcut(x), inplace=True)
