"""BEVDet's necks, of the images and of the grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.necks.fpn import pyramid_conv
from bev.registry import MODELS


@MODELS.register_module()
class SingleLevelFPN(nn.Module):
    """Top-down pyramid of which the finest level alone is made; names of BEVDet's ``FPNForBEVDet`` and ``CustomFPN``.

    Args:
        in_channels: of every map, finest first.
        out_channels: of the result.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(pyramid_conv(channels, out_channels, 1) for channels in in_channels)
        self.fpn_convs = nn.ModuleList([pyramid_conv(out_channels, out_channels, 3)])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_l, H_l, W_l), finest first -> (B, out_channels, H_0, W_0)."""
        merged = self.lateral_convs[-1](maps[-1])
        for conv, finer in zip(list(self.lateral_convs)[-2::-1], maps[-2::-1]):
            merged = conv(finer) + F.interpolate(merged, size=finer.shape[-2:], mode="nearest")
        return self.fpn_convs[0](merged)


@MODELS.register_module()
class LSSFPN(nn.Module):
    """A coarse map enlarged, joined to a fine one, and enlarged once more (names of BEVDet's ``FPN_LSS``).

    Args:
        in_channels: of both maps together.
        out_channels: of the result.
        scale: how much coarser the coarse map is.
        input_indices: fine and coarse map among those given.
        extra_upsample: the second enlargement; None for none (then ``conv`` ends in ``out_channels``).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int = 4,
        input_indices: tuple[int, int] = (0, 2),
        extra_upsample: int | None = 2,
    ) -> None:
        super().__init__()
        self.input_indices, self.scale = tuple(input_indices), scale
        width = out_channels * (2 if extra_upsample else 1)
        self.up = nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=True)
        self.conv = nn.Sequential(*_conv_norm_relu(in_channels, width), *_conv_norm_relu(width, width))
        if extra_upsample:
            self.up2 = nn.Sequential(
                nn.Upsample(scale_factor=extra_upsample, mode="bilinear", align_corners=True),
                *_conv_norm_relu(width, out_channels),
                nn.Conv2d(out_channels, out_channels, 1),
            )
        self.extra_upsample = bool(extra_upsample)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_l, Y_l, X_l) -> (B, out_channels, Y, X)."""
        fine, coarse = (maps[index] for index in self.input_indices)
        merged = self.conv(torch.cat([fine, self.up(coarse)], 1))
        return self.up2(merged) if self.extra_upsample else merged


def _conv_norm_relu(in_channels: int, out_channels: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
