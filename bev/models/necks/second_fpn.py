"""SECOND's neck: all maps at one size, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.registry import MODELS


@MODELS.register_module()
class SecondFPN(nn.Module):
    """Every map brought to one size and joined (names of mmdet3d's ``SECONDFPN``; Sensors 2018, 18(10), 3337).

    Args:
        in_channels, out_channels: of every map; of its part of the result.
        upsample_strides: above 1 a transposed convolution of that stride, 1 a 1x1 one, below 1 a plain convolution of
            the inverse stride.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: Sequence[int], upsample_strides: Sequence[float]
    ) -> None:
        super().__init__()
        if not len(in_channels) == len(out_channels) == len(upsample_strides):
            raise ValueError(f"SecondFPN: {in_channels}, {out_channels} and {upsample_strides} differ in length")
        self.deblocks = nn.ModuleList(
            nn.Sequential(_resize(before, after, stride), nn.BatchNorm2d(after, eps=1e-3, momentum=0.01), nn.ReLU(True))
            for before, after, stride in zip(in_channels, out_channels, upsample_strides)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_l, H_l, W_l) -> (B, sum of out_channels, H, W).

        Raises:
            ValueError: another number of maps than the neck was built for.
        """
        if len(maps) != len(self.deblocks):
            raise ValueError(f"SecondFPN was built for {len(self.deblocks)} maps, got {len(maps)}")
        return torch.cat([block(x) for block, x in zip(self.deblocks, maps)], 1)


def _resize(in_channels: int, out_channels: int, stride: float) -> nn.Module:
    if stride >= 1:
        size = round(stride)
        return nn.ConvTranspose2d(in_channels, out_channels, size, size, bias=False)
    size = round(1 / stride)
    return nn.Conv2d(in_channels, out_channels, size, size, bias=False)
