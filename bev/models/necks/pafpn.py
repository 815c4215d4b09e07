"""Path aggregation network."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.necks.fpn import pyramid_conv
from bev.registry import MODELS


@MODELS.register_module()
class PAFPN(nn.Module):
    """FPN with a second, bottom-up way (Liu et al., PANet, CVPR 2018; names of mmdet).

    Args:
        in_channels: of every map, finest first.
        out_channels: of every level.
        num_outs: number of levels; those beyond the maps are 1x1 max pooled from the last.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, num_outs: int | None = None) -> None:
        super().__init__()
        count = len(in_channels)
        self.num_outs = count if num_outs is None else num_outs
        if self.num_outs < count:
            raise ValueError(f"PAFPN cannot make {num_outs} levels of {count} maps")
        self.lateral_convs = nn.ModuleList(pyramid_conv(channels, out_channels, 1) for channels in in_channels)
        self.fpn_convs = nn.ModuleList(pyramid_conv(out_channels, out_channels, 3) for _ in in_channels)
        self.downsample_convs = nn.ModuleList(pyramid_conv(out_channels, out_channels, 3, 2) for _ in in_channels[1:])
        self.pafpn_convs = nn.ModuleList(pyramid_conv(out_channels, out_channels, 3) for _ in in_channels[1:])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l), finest first -> levels (B, out_channels, H_l, W_l)."""
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps)]
        for level in range(len(laterals) - 1, 0, -1):
            size = laterals[level - 1].shape[-2:]
            laterals[level - 1] = laterals[level - 1] + F.interpolate(laterals[level], size=size, mode="nearest")
        levels = [conv(x) for conv, x in zip(self.fpn_convs, laterals)]
        for level, down in enumerate(self.downsample_convs):
            levels[level + 1] = levels[level + 1] + down(levels[level])
        outputs = [levels[0], *(conv(x) for conv, x in zip(self.pafpn_convs, levels[1:]))]
        for _ in range(self.num_outs - len(outputs)):
            outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
        return outputs
