"""A small encoder-decoder over the bird's-eye-view grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.conv_module import ConvModule, ResidualBlock
from bev.registry import MODELS


@MODELS.register_module()
class BEVEncoder(nn.Module):
    """Stages at strides 1, 2, 4 ... of the grid, merged top-down by sums back to stride 1.

    The grid's full resolution is where the time goes: the first stage is one convolution, and coarse maps are narrowed
    before they are upsampled.

    Args:
        in_channels: of the grid.
        widths: channels of the stages; the result has ``widths[0]``.
        blocks: residual blocks of the second and further stages.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        if len(blocks) != len(widths) - 1:
            raise ValueError(f"widths {tuple(widths)} need {len(widths) - 1} entries of blocks, got {tuple(blocks)}")
        stages: list[nn.Module] = [ConvModule(in_channels, widths[0])]
        for before, width, count in zip(widths, widths[1:], blocks):
            rest = (ResidualBlock(width, width) for _ in range(count - 1))
            stages.append(nn.Sequential(ResidualBlock(before, width, stride=2), *rest))
        self.stages = nn.ModuleList(stages)
        pairs = list(zip(widths, widths[1:]))[::-1]
        self.narrow = nn.ModuleList(ConvModule(coarse, fine, 1, activation=False) for fine, coarse in pairs)
        self.merge = nn.ModuleList(ConvModule(fine, fine) for fine, _ in pairs)

    def forward(self, bev: Tensor) -> Tensor:
        """(B, in_channels, Y, X) -> (B, widths[0], Y, X)."""
        maps = []
        for stage in self.stages:
            bev = stage(bev)
            maps.append(bev)
        merged = maps.pop()
        for narrow, merge in zip(self.narrow, self.merge):
            finer = maps.pop()
            grown = F.interpolate(narrow(merged), size=finer.shape[-2:], mode="bilinear", align_corners=False)
            merged = merge(grown + finer)
        return merged
