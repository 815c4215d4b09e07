"""CSPRepResNet, its path aggregation and its head's attention (PP-YOLOE, arXiv 2203.16250, sections 2.2 to 2.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.backbones.repvgg import RepVGGBlock
from bev.models.backbones.vovnet import EffectiveSE
from bev.models.conv_module import Activation, ConvModule
from bev.registry import MODELS


def scaled(channels: int, factor: float) -> int:
    """A width times a factor, at least 1."""
    return max(round(channels * factor), 1)


class RepBlock(nn.Module):
    """A 3x3 convolution, a RepVGG block without identity, and a shortcut where asked (figure 3a)."""

    def __init__(self, channels: int, shortcut: bool, activation: Activation) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, 3, activation=activation)
        self.conv2 = RepVGGBlock(channels, channels, identity=False, activation=activation)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        result: Tensor = self.conv2(self.conv1(x))
        return x + result if self.shortcut else result


class PooledPyramid(nn.Module):
    """Maxima over windows of several sizes beside the map, then a 1x1 convolution."""

    def __init__(self, channels: int, activation: Activation, sizes: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in sizes)
        self.conv = ConvModule(channels * (1 + len(sizes)), channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        result: Tensor = self.conv(torch.cat([x, *(pool(x) for pool in self.pools)], 1))
        return result


class CSPRepLayer(nn.Module):
    """Two 1x1 ways, one of them on through blocks; joined, perhaps weighed by channel, and a 1x1 convolution (3b, 3d).

    Args:
        in_channels, hidden, out_channels: of the input, of each way, of the result.
        count: blocks.
        shortcut, activation: of the blocks.
        squeeze: effective squeeze-excitation of the joined ways.
        pooled: maxima over windows after the middle block.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        count: int,
        shortcut: bool,
        activation: Activation,
        squeeze: bool = False,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = ConvModule(in_channels, hidden, 1, activation=activation)
        self.conv2 = ConvModule(in_channels, hidden, 1, activation=activation)
        blocks: list[nn.Module] = []
        for index in range(count):
            blocks.append(RepBlock(hidden, shortcut, activation))
            if pooled and index == (count - 1) // 2:
                blocks.append(PooledPyramid(hidden, activation))
        self.blocks = nn.Sequential(*blocks)
        self.attention = EffectiveSE(2 * hidden) if squeeze else nn.Identity()
        self.conv3 = ConvModule(2 * hidden, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        joined = torch.cat([self.conv1(x), self.blocks(self.conv2(x))], 1)
        result: Tensor = self.conv3(self.attention(joined))
        return result


@MODELS.register_module()
class CSPRepResNet(nn.Module):
    """Three convolutions for a stem and four stages of :class:`CSPRepLayer`, strides 4 to 32.

    Args:
        depth, width: factors of the blocks (3, 6, 6, 3) and channels (64 to 1024).
        out_stages: stages (0 to 3) whose maps are returned, rising.
        activation: everywhere.

    Raises:
        ValueError: stages that do not exist.
    """

    def __init__(
        self,
        depth: float = 1.0,
        width: float = 1.0,
        out_stages: Sequence[int] = (1, 2, 3),
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        if not out_stages or list(out_stages) != sorted(set(out_stages)) or not set(out_stages) <= set(range(4)):
            raise ValueError(f"CSPRepResNet out_stages {tuple(out_stages)} must be rising stages of 0 to 3")
        self.out_stages = tuple(out_stages)
        widths = [scaled(channels, width) for channels in (64, 128, 256, 512, 1024)]
        stem = widths[0]
        self.stem = nn.Sequential(
            ConvModule(3, stem // 2, 3, 2, activation=activation),
            ConvModule(stem // 2, stem // 2, 3, activation=activation),
            ConvModule(stem // 2, stem, 3, activation=activation),
        )
        stages = []
        for before, after, count in zip(widths, widths[1:], (3, 6, 6, 3)):
            middle = (before + after) // 2
            down = ConvModule(before, middle, 3, 2, activation=activation)
            layer = CSPRepLayer(middle, middle // 2, after, scaled(count, depth), True, activation, squeeze=True)
            stages.append(nn.Sequential(down, layer))
        self.stages = nn.ModuleList(stages)
        self.out_channels = [widths[stage + 1] for stage in self.out_stages]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_stages``, finest first."""
        x, maps = self.stem(images), []
        for number in range(max(self.out_stages) + 1):
            x = self.stages[number](x)
            if number in self.out_stages:
                maps.append(x)
        return maps
