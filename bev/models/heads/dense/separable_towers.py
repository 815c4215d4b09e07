"""Towers of separable convolutions that levels share, with norms of their own (EfficientDet, CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.heads.dense.common import Maps, start_predictor
from bev.models.necks.bifpn import EFFICIENT_NORM, SeparableConv
from bev.registry import MODELS


class _Tower(nn.Module):
    """Separable convolutions, each with one norm a level and swish, and a last one that predicts."""

    def __init__(self, channels: int, depth: int, levels: int, values: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(SeparableConv(channels, channels, norm=False) for _ in range(depth))
        self.norms = nn.ModuleList(
            nn.ModuleList(EFFICIENT_NORM.build(channels) for _ in range(depth)) for _ in range(levels)
        )
        self.predict = SeparableConv(channels, values, norm=False)

    def forward(self, x: Tensor, level: int) -> Tensor:
        norms = self.norms[level]
        assert isinstance(norms, nn.ModuleList)
        for conv, norm in zip(self.convs, norms):
            x = F.silu(norm(conv(x)))
        result: Tensor = self.predict(x)
        return result


@MODELS.register_module()
class SeparableTowers(nn.Module):
    """Classes from one tower, boxes from another; the same convolutions on every level.

    Args:
        num_classes: of the scores.
        in_channels: of every level, and of the towers.
        num_levels: number of levels.
        depth: convolutions before the last one (D0: 3).
        per_cell: priors of a cell.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 64, num_levels: int = 5, depth: int = 3, per_cell: int = 9
    ) -> None:
        super().__init__()
        self.cls_tower = _Tower(in_channels, depth, num_levels, per_cell * num_classes)
        self.reg_tower = _Tower(in_channels, depth, num_levels, per_cell * 4)
        start_predictor([self.cls_tower.predict.pointwise], 0.01, std=None)

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, in_channels, H_l, W_l) -> ``cls`` and ``box``."""
        return {
            "cls": [self.cls_tower(x, level) for level, x in enumerate(features)],
            "box": [self.reg_tower(x, level) for level, x in enumerate(features)],
        }
