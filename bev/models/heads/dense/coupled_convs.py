"""One convolution for boxes, objectness and classes together (YOLOv2 to v7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.conv_module import Activation, ConvModule, Norm
from bev.models.heads.dense.common import Maps, prior_bias, start_predictor
from bev.registry import MODELS


@MODELS.register_module()
class CoupledConvs(nn.Module):
    """On every level a 3x3 convolution and a 1x1 one with 5 + num_classes values a prior.

    Args:
        num_classes: of the scores.
        in_channels: of the levels.
        mid_channels: of the 3x3 convolutions; None leaves these out (YOLOv5).
        per_cell: priors of a cell.
        norm, activation: after the 3x3 convolutions.
        prior_probability: that objectness and classes begin with; None for one half.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        mid_channels: Sequence[int] | None = None,
        per_cell: int = 3,
        norm: Norm | None = None,
        activation: Activation = "leaky_relu",
        prior_probability: float | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.per_cell = num_classes, per_cell
        widths = in_channels if mid_channels is None else mid_channels
        self.convs_bridge = nn.ModuleList(
            nn.Identity() if mid_channels is None else ConvModule(a, b, norm=norm or True, activation=activation)
            for a, b in zip(in_channels, widths)
        )
        convs = [nn.Conv2d(width, per_cell * (5 + num_classes), 1) for width in widths]
        start_predictor(convs)
        if prior_probability is not None:
            for conv in convs:
                conv.bias.data.view(per_cell, -1)[:, 4:] = prior_bias(prior_probability)  # type: ignore[union-attr]
        self.convs_pred = nn.ModuleList(convs)

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, C_l, H_l, W_l) -> ``cls``, ``box`` and ``quality`` (objectness)."""
        maps: Maps = {"cls": [], "box": [], "quality": []}
        for x, bridge, predict in zip(features, self.convs_bridge, self.convs_pred):
            values = predict(bridge(x)).unflatten(1, (self.per_cell, -1))
            box, objectness, classes = torch.split(values, [4, 1, self.num_classes], dim=2)
            for name, part in (("cls", classes), ("box", box), ("quality", objectness)):
                maps[name].append(part.flatten(1, 2))
        return maps
