"""PicoDet's head (arXiv 2111.00902, section 3.3): one tower a level for classes and boxes together."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.conv_module import BN, Activation, ConvModule
from bev.models.heads.dense.common import Maps, start_predictor
from bev.registry import MODELS

_KERNEL = 5


class _PaddleNorm(BN):
    name = "norm"


class _LightFeatures(nn.Module):
    """Depthwise and 1x1 convolutions of each level, ``count`` of both in turns."""

    def __init__(self, channels: int, count: int, levels: int, activation: Activation) -> None:
        super().__init__()
        norm = _PaddleNorm()
        for level in range(levels):
            deep = [ConvModule(channels, channels, _KERNEL, 1, norm, activation, channels) for _ in range(count)]
            flat = [ConvModule(channels, channels, 1, 1, norm, activation) for _ in range(count)]
            for conv in (*deep, *flat):
                nn.init.normal_(conv.conv.weight, std=0.01)
            self.add_module(f"cls_conv_dw{level}", nn.ModuleList(deep))
            self.add_module(f"cls_conv_pw{level}", nn.ModuleList(flat))

    def forward(self, x: Tensor, level: int) -> Tensor:
        for deep, flat in zip(getattr(self, f"cls_conv_dw{level}"), getattr(self, f"cls_conv_pw{level}")):
            x = flat(deep(x))
        return x


@MODELS.register_module()
class LightTowers(nn.Module):
    """5x5 depthwise and 1x1 convolutions in turns, then one 1x1 convolution for classes and distributed sides.

    Levels share nothing. Parameters are named as PaddleDetection's PicoHead names them.

    Args:
        num_classes: of the scores.
        in_channels: of every level, and of the towers.
        stacked_convs: pairs of convolutions (published: 2 small, 4 medium and large).
        num_levels: number of levels.
        box_channels: values of a box, as its coder has them.
        activation: after every convolution of the towers.
        prior_probability: that classes begin with.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 96,
        stacked_convs: int = 2,
        num_levels: int = 4,
        box_channels: int = 32,
        activation: Activation = "hardswish",
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        self.values = [num_classes, box_channels]
        self.conv_feat = _LightFeatures(in_channels, stacked_convs, num_levels, activation)
        for level in range(num_levels):
            last = nn.Conv2d(in_channels, sum(self.values), 1)
            start_predictor([last], prior_probability)
            self.add_module(f"head_cls{level}", last)

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, in_channels, H_l, W_l) -> ``cls`` and ``box``."""
        maps: Maps = {"cls": [], "box": []}
        for level, x in enumerate(features):
            classes, boxes = getattr(self, f"head_cls{level}")(self.conv_feat(x, level)).split(self.values, 1)
            maps["cls"].append(classes)
            maps["box"].append(boxes)
        return maps
