"""Adaptively spatial feature fusion: at every place each level's share is predicted (arXiv 1911.09516)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.conv_module import Activation, ConvModule
from bev.registry import MODELS


class _Resized(nn.Module):
    """A level at the width and size of another one.

    One level coarser: a 3x3 convolution of stride 2; two: maxima of stride 2 first. Finer: a 1x1 convolution, then the
    nearest pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, steps: int, activation: Activation) -> None:
        super().__init__()
        self.steps = steps
        if steps > 0:
            self.conv: nn.Module = ConvModule(in_channels, out_channels, 3, 2, activation=activation)
        else:
            self.conv = ConvModule(in_channels, out_channels, 1, activation=activation) if steps else nn.Identity()

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        for _ in range(self.steps - 1):
            x = F.max_pool2d(x, 3, 2, 1)
        x = self.conv(x)
        return F.interpolate(x, size=size, mode="nearest") if self.steps < 0 else x


class _Fusion(nn.Module):
    """All levels at one of them, each times its share of every place."""

    def __init__(
        self, in_channels: Sequence[int], level: int, out_channels: int, compressed: int, activation: Activation
    ) -> None:
        super().__init__()
        width = in_channels[level]
        self.resize = nn.ModuleList(
            _Resized(channels, width, level - other, activation) for other, channels in enumerate(in_channels)
        )
        self.compress = nn.ModuleList(ConvModule(width, compressed, 1, activation=activation) for _ in in_channels)
        self.weigh = nn.Conv2d(compressed * len(in_channels), len(in_channels), 1)
        self.expand = ConvModule(width, out_channels, 3, activation=activation)

    def shares(self, resized: Sequence[Tensor]) -> Tensor:
        """(B, levels, H, W), at every place together one."""
        return self.weigh(torch.cat([conv(x) for conv, x in zip(self.compress, resized)], 1)).softmax(1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        resized = [resize(x, size) for resize, x in zip(self.resize, maps)]
        shares = self.shares(resized).split(1, 1)
        joined = torch.stack([share * x for share, x in zip(shares, resized)]).sum(0)
        result: Tensor = self.expand(joined)
        return result


@MODELS.register_module()
class ASFF(nn.Module):
    """Every level becomes a mixture of all levels, whose shares are a softmax over maps of ``compressed`` channels.

    Args:
        in_channels: of the levels, finest first, each half the last in size.
        out_channels: of all levels; None keeps theirs.
        compressed: channels that a level is reduced to before the shares (published: 16).
        activation: of the convolutions.
        neck: makes the levels from the backbone's maps, e.g. a path aggregation network; None for the maps themselves.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int | None = None,
        compressed: int = 16,
        activation: Activation = "silu",
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.neck = neck
        self.fusions = nn.ModuleList(
            _Fusion(in_channels, level, out_channels or channels, compressed, activation)
            for level, channels in enumerate(in_channels)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps or levels (B, C_l, H_l, W_l), finest first -> as many levels."""
        levels = maps if self.neck is None else self.neck(maps)
        sizes = [(int(x.shape[2]), int(x.shape[3])) for x in levels]
        return [fusion(levels, size) for fusion, size in zip(self.fusions, sizes)]
