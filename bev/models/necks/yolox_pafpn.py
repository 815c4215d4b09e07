"""Path aggregation: top-down, then bottom-up, joined by concatenation, with the official YOLOX parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.backbones.csp_darknet import BaseConv, CSPLayer, spatial_conv
from bev.models.conv_module import Activation
from bev.registry import MODELS


@MODELS.register_module()
class YOLOXPAFPN(nn.Module):
    """PANet's two paths over CSP layers (arXiv 1803.01534 as used in YOLOX), three levels.

    Args:
        in_channels: of the backbone's maps of strides 8, 16, 32.
        depth: factor of the bottlenecks, as of the backbone.
        depthwise: spatial convolutions are depthwise.
        activation: everywhere.
        out_channels: of a 1x1 convolution after every level (the head's ``stems`` of the official code); None for the
            levels as they are.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        depth: float = 1.0,
        depthwise: bool = False,
        activation: Activation = "silu",
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        if len(in_channels) != 3:
            raise ValueError(f"YOLOXPAFPN joins three maps, got {len(in_channels)}")
        c3, c4, c5 = in_channels
        count = max(round(3 * depth), 1)

        def join(first: int, last: int) -> CSPLayer:
            return CSPLayer(first, last, count, False, depthwise, activation)

        self.lateral_conv0 = BaseConv(c5, c4, 1, activation=activation)
        self.C3_p4 = join(2 * c4, c4)
        self.reduce_conv1 = BaseConv(c4, c3, 1, activation=activation)
        self.C3_p3 = join(2 * c3, c3)
        self.bu_conv2 = spatial_conv(c3, c3, 3, 2, depthwise, activation)
        self.C3_n3 = join(2 * c3, c4)
        self.bu_conv1 = spatial_conv(c4, c4, 3, 2, depthwise, activation)
        self.C3_n4 = join(2 * c4, c5)
        widths = in_channels if out_channels else ()
        self.stems = nn.ModuleList(BaseConv(c, out_channels or c, 1, activation=activation) for c in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of strides 8, 16, 32, each half the last -> the same strides, (B, C, H_l, W_l)."""
        fine, middle, coarse = maps
        top = self.lateral_conv0(coarse)
        between = self.reduce_conv1(self.C3_p4(torch.cat([_double(top), middle], 1)))
        p3 = self.C3_p3(torch.cat([_double(between), fine], 1))
        p4 = self.C3_n3(torch.cat([self.bu_conv2(p3), between], 1))
        p5 = self.C3_n4(torch.cat([self.bu_conv1(p4), top], 1))
        levels = [p3, p4, p5]
        return [stem(x) for stem, x in zip(self.stems, levels)] if self.stems else levels


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
