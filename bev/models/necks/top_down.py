"""A top-down pyramid that returns its finest map only."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.conv_module import ConvModule
from bev.registry import MODELS


@MODELS.register_module()
class TopDownNeck(nn.Module):
    """Lateral 1x1 convolutions, nearest upsampling and sums as in FPN (arXiv 1612.03144), one 3x3 at the finest level.

    Args:
        in_channels: of the maps, finest first.
        out_channels: of the result.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvModule(c, out_channels, 1, activation=False) for c in in_channels)
        self.fpn_conv = ConvModule(out_channels, out_channels)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_l, H_l, W_l), finest first -> (B, out_channels, H_0, W_0)."""
        laterals = [conv(feature) for conv, feature in zip(self.lateral_convs, features)]
        merged = laterals[-1]
        for lateral in reversed(laterals[:-1]):
            merged = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
        return self.fpn_conv(merged)
