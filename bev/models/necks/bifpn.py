"""Bidirectional pyramid with learnt weights (EfficientDet, CVPR 2020, arXiv 1911.09070, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.conv_module import BN, ConvModule
from bev.registry import MODELS

# As published: TensorFlow's defaults of the EfficientNets.
EFFICIENT_NORM = BN(eps=1e-3, momentum=0.01)


class SeparableConv(nn.Module):
    """A depthwise 3x3 convolution, a 1x1 one with bias, and a norm where asked; no activation.

    Args:
        in_channels, out_channels: of the two together.
        norm: whether batch norm follows.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        self.norm = EFFICIENT_NORM.build(out_channels) if norm else nn.Identity()
        nn.init.zeros_(self.pointwise.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        result: Tensor = self.norm(self.pointwise(self.depthwise(x)))
        return result


class WeightedFusion(nn.Module):
    """Fast normalised fusion: ``sum_i relu(w_i) x_i / (1e-4 + sum_j relu(w_j))``, swish, separable convolution.

    Args:
        channels: of the maps.
        count: maps that are joined.
    """

    eps = 1e-4

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(count))
        self.conv = SeparableConv(channels, channels)

    def shares(self) -> Tensor:
        """(count,) what each map counts, each in [0, 1), together below 1."""
        weights = self.weights.relu()
        return weights / (weights.sum() + self.eps)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``count`` maps (B, C, H, W) -> one."""
        shares = self.shares().to(maps[0].dtype)
        joined = torch.stack([share * x for share, x in zip(shares.unbind(), maps)]).sum(0)
        return self.conv(F.silu(joined))


def _resample(in_channels: int, out_channels: int) -> nn.Module:
    """A 1x1 convolution with bias and norm where the width changes."""
    if in_channels == out_channels:
        return nn.Identity()
    return ConvModule(in_channels, out_channels, 1, norm=EFFICIENT_NORM, activation=False, bias=True)


def halve(x: Tensor) -> Tensor:
    """Maxima over 3x3 windows of stride 2 with TensorFlow's SAME padding: (H, W) -> (ceil(H / 2), ceil(W / 2))."""
    below, beside = (1 if size % 2 == 0 else 2 for size in x.shape[-2:])
    top, left = below // 2, beside // 2
    padded = F.pad(x, (left, beside - left, top, below - top), value=float("-inf"))
    return F.max_pool2d(padded, 3, 2)


class BiFPNLayer(nn.Module):
    """One round from the coarsest level to the finest and back.

    Args:
        in_channels: of every level, finest first; those that differ from ``channels`` are made so, once for each way.
        channels: of the result.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        count = len(in_channels)
        self.inputs = nn.ModuleList(_resample(c, channels) for c in in_channels)
        # The way back sees the inner levels' inputs once more, through convolutions of its own.
        self.again = nn.ModuleList(_resample(c, channels) for c in in_channels[1:-1])
        self.down = nn.ModuleList(WeightedFusion(channels, 2) for _ in range(count - 1))
        self.up = nn.ModuleList(WeightedFusion(channels, 3 if k < count - 2 else 2) for k in range(count - 1))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C_l, H_l, W_l), each half the last rounded up -> as many, (B, channels, H_l, W_l)."""
        entries = [resample(x) for resample, x in zip(self.inputs, levels)]
        between = [entries[-1]]
        for level in range(len(levels) - 2, -1, -1):
            raised = F.interpolate(between[0], size=levels[level].shape[-2:], mode="nearest")
            between.insert(0, self.down[level]([entries[level], raised]))
        outputs = [between[0]]
        for level in range(1, len(levels)):
            lowered = halve(outputs[-1])
            if level < len(levels) - 1:
                own = self.again[level - 1](levels[level])
                outputs.append(self.up[level - 1]([own, between[level], lowered]))
            else:
                outputs.append(self.up[level - 1]([entries[level], lowered]))
        return outputs


@MODELS.register_module()
class BiFPN(nn.Module):
    """Two further levels by maxima, then several :class:`BiFPNLayer`.

    Args:
        in_channels: of the backbone's maps, finest first (EfficientDet: strides 8, 16, 32).
        out_channels: of the levels (D0: 64).
        layers: rounds (D0: 3).
        num_outs: levels; the first that the backbone does not have is a 1x1 convolution of its last map and maxima of
            it, the others are maxima.

    Raises:
        ValueError: fewer levels than maps, or fewer than three.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 64, layers: int = 3, num_outs: int = 5) -> None:
        super().__init__()
        if num_outs < max(3, len(in_channels)):
            raise ValueError(f"BiFPN cannot make {num_outs} levels of {len(in_channels)} maps")
        self.num_outs = num_outs
        further = num_outs - len(in_channels)
        self.extra = _resample(in_channels[-1], out_channels) if further else nn.Identity()
        first = [*in_channels, *[out_channels] * further]
        widths = [first, *[[out_channels] * num_outs] * (layers - 1)]
        self.layers = nn.ModuleList(BiFPNLayer(width, out_channels) for width in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l), finest first -> ``num_outs`` levels (B, out_channels, H_l, W_l)."""
        levels = list(maps)
        for level in range(len(maps), self.num_outs):
            levels.append(halve(self.extra(levels[-1]) if level == len(maps) else levels[-1]))
        for layer in self.layers:
            levels = layer(levels)
        return levels
