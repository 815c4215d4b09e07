"""PP-YOLOE's efficient task-aligned head (arXiv 2203.16250, section 2.5): one attended 1x1 convolution a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.conv_module import Activation, ConvModule
from bev.models.heads.dense.common import Maps, start_predictor
from bev.registry import MODELS


class _TaskAttention(nn.Module):
    """Channels weighed by a sigmoid of their means, then a 1x1 convolution."""

    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        self.conv = ConvModule(channels, channels, 1, activation=activation)
        nn.init.normal_(self.fc.weight, std=0.001)
        nn.init.zeros_(self.fc.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, mean: Tensor) -> Tensor:
        result: Tensor = self.conv(x * torch.sigmoid(self.fc(mean)))
        return result


@MODELS.register_module()
class AttentionTowers(nn.Module):
    """On every level an attended convolution for classes, with a shortcut, and one for distributed sides.

    Args:
        num_classes: of the scores.
        in_channels: of the levels.
        box_channels: values of a box, as its coder has them.
        activation: of the convolutions.
        prior_probability: that classes begin with.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        box_channels: int = 68,
        activation: Activation = "silu",
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        self.stem_cls = nn.ModuleList(_TaskAttention(c, activation) for c in in_channels)
        self.stem_reg = nn.ModuleList(_TaskAttention(c, activation) for c in in_channels)
        self.pred_cls = nn.ModuleList(nn.Conv2d(c, num_classes, 3, padding=1) for c in in_channels)
        self.pred_reg = nn.ModuleList(nn.Conv2d(c, box_channels, 3, padding=1) for c in in_channels)
        start_predictor(list(self.pred_cls), prior_probability)  # type: ignore[arg-type]
        start_predictor(list(self.pred_reg))  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, C_l, H_l, W_l) -> ``cls`` and ``box``."""
        maps: Maps = {"cls": [], "box": []}
        for level, x in enumerate(features):
            mean = x.mean((2, 3), keepdim=True)
            maps["cls"].append(self.pred_cls[level](self.stem_cls[level](x, mean) + x))
            maps["box"].append(self.pred_reg[level](self.stem_reg[level](x, mean)))
        return maps
