"""Towers of each level's own (YOLOX, RTMDet), or none at all (SSD)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.conv_module import Activation, ConvModule, DepthwiseConvModule, Norm
from bev.models.heads.dense.common import BoxForm, Maps, QualityFrom, box_values, start_predictor
from bev.registry import MODELS


@MODELS.register_module()
class LevelTowers(nn.Module):
    """Classes from one tower, boxes from another, on every level its own.

    Args:
        num_classes: of the scores, background included where the criterion has one.
        in_channels: of the levels, one number for all or one each.
        strides: of the levels, px.
        feat_channels, stacked_convs: width and depth of the towers; a depth of 0 predicts from the level itself.
        per_cell: priors of a cell, one number for all levels or one each.
        box_channels: values of a box.
        quality: a third map (objectness) from the tower of classes or of boxes.
        norm, activation, depthwise: of the towers' convolutions.
        share_convs: levels share their convolutions and keep norms of their own (RTMDet).
        box_form: see :func:`box_values`.
        kernel_size: of the last convolutions.
        prior_probability: that classes and quality begin with.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int | Sequence[int],
        strides: Sequence[int],
        feat_channels: int = 256,
        stacked_convs: int = 2,
        per_cell: int | Sequence[int] = 1,
        box_channels: int = 4,
        quality: QualityFrom | None = None,
        norm: Norm | None = None,
        activation: Activation = "silu",
        depthwise: bool = False,
        share_convs: bool = False,
        box_form: BoxForm = "plain",
        kernel_size: int = 1,
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        self.strides, self.quality, self.box_form = tuple(strides), quality, box_form
        channels = [in_channels] * len(self.strides) if isinstance(in_channels, int) else list(in_channels)
        priors = [per_cell] * len(self.strides) if isinstance(per_cell, int) else list(per_cell)
        if not len(channels) == len(priors) == len(self.strides):
            counts = f"{len(self.strides)} strides, {len(channels)} channels, {len(priors)} priors"
            raise ValueError(f"LevelTowers needs one of each for every level, got {counts}")
        kind = DepthwiseConvModule if depthwise else ConvModule

        def tower(first: int) -> nn.Sequential:
            widths = [first, *[feat_channels] * stacked_convs]
            pairs = zip(widths[:-1], widths[1:])
            return nn.Sequential(*(kind(a, b, norm=norm or True, activation=activation) for a, b in pairs))

        def predictor(values: int, probability: float | None = None) -> nn.ModuleList:
            widths = [feat_channels if stacked_convs else c for c in channels]
            convs = [
                nn.Conv2d(width, count * values, kernel_size, padding=kernel_size // 2)
                for width, count in zip(widths, priors)
            ]
            start_predictor(convs, probability, std=None)
            return nn.ModuleList(convs)

        self.cls_convs = nn.ModuleList(tower(c) for c in channels)
        self.reg_convs = nn.ModuleList(tower(c) for c in channels)
        self.conv_cls, self.conv_reg = predictor(num_classes, prior_probability), predictor(box_channels)
        if quality is not None:
            self.conv_quality = predictor(1, prior_probability)
        if share_convs:
            self._share()

    def _share(self) -> None:
        for towers in (self.cls_convs, self.reg_convs):
            for level in range(1, len(towers)):
                for own, first in zip(towers[level].modules(), towers[0].modules()):
                    if isinstance(own, ConvModule) and isinstance(first, ConvModule):
                        own.conv = first.conv

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, C_l, H_l, W_l) -> ``cls``, ``box`` and perhaps ``quality``."""
        maps: Maps = {name: [] for name in ("cls", "box", *(("quality",) if self.quality else ()))}
        for level, x in enumerate(features):
            classes, boxes = self.cls_convs[level](x), self.reg_convs[level](x)
            maps["cls"].append(self.conv_cls[level](classes))
            maps["box"].append(box_values(self.conv_reg[level](boxes), None, self.box_form, self.strides[level]))
            if self.quality:
                maps["quality"].append(self.conv_quality[level](classes if self.quality == "cls" else boxes))
        return maps
