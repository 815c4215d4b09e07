"""Deformable convolution that predicts its own offsets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bev.ops.deform_conv import deform_conv2d


class DeformConv2d(nn.Conv2d):
    """DCNv1 (arXiv 1703.06211) with its offset branch and no bias, parameter names as in mmcv's pack.

    ``conv_offset`` starts at zero: every position is read where a plain convolution reads.

    Args:
        groups: of the convolution.
        deform_groups: groups of channels that move together.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        deform_groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)
        self.conv_offset = nn.Conv2d(
            in_channels, deform_groups * 2 * kernel_size**2, kernel_size, stride, padding, dilation
        )
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        offset = self.conv_offset(maps)
        mask = torch.ones_like(offset[:, : offset.shape[1] // 2])
        stride, padding, dilation = self.stride[0], int(self.padding[0]), self.dilation[0]
        return deform_conv2d(maps, offset, mask, self.weight, None, stride, padding, dilation, self.groups)


class ModulatedDeformConv2d(nn.Conv2d):
    """DCNv2 with its offset branch: a drop-in for a square ``Conv2d``, parameter names as in mmcv's pack.

    ``conv_offset`` starts at zero: every position is read where a plain convolution reads, with half its weight.

    Args:
        deform_groups: groups of channels that move together.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
        deform_groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)
        self.conv_offset = nn.Conv2d(
            in_channels, deform_groups * 3 * kernel_size**2, kernel_size, stride, padding, dilation
        )
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        predicted = self.conv_offset(maps)
        count = predicted.shape[1] // 3
        offset, mask = predicted[:, : 2 * count], torch.sigmoid(predicted[:, 2 * count :])
        stride, padding, dilation = self.stride[0], int(self.padding[0]), self.dilation[0]
        return deform_conv2d(maps, offset, mask, self.weight, self.bias, stride, padding, dilation)
