"""SSD's further levels (ECCV 2016, arXiv 1512.02325, section 2), with mmdet's parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.conv_module import ConvModule
from bev.registry import MODELS


class ChannelNorm(nn.Module):
    """Each place's vector scaled to length one, then each channel by a learnt factor (ParseNet, arXiv 1506.04579)."""

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        length = x.float().square().sum(1, keepdim=True).sqrt() + 1e-10
        return self.weight[:, None, None] * x / length.to(x.dtype)


@MODELS.register_module()
class SSDNeck(nn.Module):
    """The first map scaled to one length a place, and further levels of 1x1 and 3x3 convolutions in turn.

    Args:
        in_channels: of the backbone's maps, finest first; they are levels themselves.
        out_channels: of all levels.
        strides: of the further levels' 3x3 convolutions; those of stride 1 have no padding (each side loses a cell).

    Raises:
        ValueError: the numbers of channels and strides disagree.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (512, 1024),
        out_channels: Sequence[int] = (512, 1024, 512, 256, 256, 256),
        strides: Sequence[int] = (2, 2, 1, 1),
    ) -> None:
        super().__init__()
        count = len(in_channels)
        if list(out_channels[:count]) != list(in_channels) or len(out_channels) != count + len(strides):
            raise ValueError(
                f"SSDNeck: maps of {tuple(in_channels)} and {len(strides)} further levels are not {tuple(out_channels)}"
            )
        self.l2_norm = ChannelNorm(in_channels[0])
        self.extra_layers = nn.ModuleList()
        for before, after, stride in zip(out_channels[count - 1 :], out_channels[count:], strides):
            narrow = ConvModule(before, after // 2, 1, norm=None)
            wide = ConvModule(after // 2, after, 3, stride, norm=None, padding=1 if stride == 2 else 0)
            self.extra_layers.append(nn.Sequential(narrow, wide))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l), finest first -> all levels."""
        levels = [self.l2_norm(maps[0]), *maps[1:]]
        for layer in self.extra_layers:
            levels.append(layer(levels[-1]))
        return levels
