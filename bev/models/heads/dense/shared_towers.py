"""Two towers of convolutions that all levels share (RetinaNet, FCOS, ATSS, PAA, GFL, RTMDet)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.conv_module import Activation, ConvModule, Norm
from bev.models.heads.dense.common import BoxForm, Maps, QualityFrom, Scale, box_values, start_predictor
from bev.registry import MODELS


@MODELS.register_module()
class SharedTowers(nn.Module):
    """Classes from one tower, boxes from another, the same weights on every level.

    Args:
        num_classes: of the scores.
        in_channels: of every level.
        strides: of the levels, px.
        feat_channels: width of the towers.
        stacked_convs: depth of the towers.
        per_cell: priors of a cell.
        box_channels: values of a box, as its coder has them.
        quality: a third map (centre-ness, IoU) from the tower of classes or of boxes; None for no such map.
        norm, activation: in the towers.
        scales: a learnt factor on each level's boxes.
        box_form: see :func:`box_values`.
        bias: of the towers' convolutions; None where there is no norm.
        deformable_last: the last convolution of each tower is a DCNv2.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        strides: Sequence[int],
        feat_channels: int = 256,
        stacked_convs: int = 4,
        per_cell: int = 1,
        box_channels: int = 4,
        quality: QualityFrom | None = None,
        norm: Norm | None = None,
        activation: Activation = "relu",
        scales: bool = False,
        box_form: BoxForm = "plain",
        bias: bool | None = None,
        deformable_last: bool = False,
    ) -> None:
        super().__init__()
        self.strides, self.quality, self.box_form = tuple(strides), quality, box_form

        def tower() -> nn.Sequential:
            return nn.Sequential(
                *(
                    ConvModule(
                        in_channels if depth == 0 else feat_channels,
                        feat_channels,
                        norm=norm,
                        activation=activation,
                        bias=bias,
                        deformable=deformable_last and depth == stacked_convs - 1,
                    )
                    for depth in range(stacked_convs)
                )
            )

        self.cls_convs, self.reg_convs = tower(), tower()
        width = feat_channels if stacked_convs else in_channels
        self.conv_cls = nn.Conv2d(width, per_cell * num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(width, per_cell * box_channels, 3, padding=1)
        start_predictor([self.conv_cls], 0.01)
        start_predictor([self.conv_reg])
        if quality is not None:
            self.conv_quality = nn.Conv2d(width, per_cell, 3, padding=1)
            start_predictor([self.conv_quality])
        self.scales = nn.ModuleList(Scale() for _ in strides) if scales else None
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and "convs" in name and not name.endswith("conv_offset"):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, in_channels, H_l, W_l) -> ``cls``, ``box`` and perhaps ``quality``."""
        maps: Maps = {name: [] for name in ("cls", "box", *(("quality",) if self.quality else ()))}
        for level, x in enumerate(features):
            classes, boxes = self.cls_convs(x), self.reg_convs(x)
            scale = None if self.scales is None else self.scales[level]
            maps["cls"].append(self.conv_cls(classes))
            maps["box"].append(box_values(self.conv_reg(boxes), scale, self.box_form, self.strides[level]))
            if self.quality:
                maps["quality"].append(self.conv_quality(classes if self.quality == "cls" else boxes))
        return maps
