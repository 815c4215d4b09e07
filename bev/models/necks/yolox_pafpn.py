"""Path aggregation: top-down, then bottom-up, joined by concatenation, with the official YOLOX parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.backbones.csp_blocks import Block, GSConv, cross_stage
from bev.models.backbones.csp_darknet_parts import BaseConv, spatial_conv
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
        block: of the layers: ``csp`` (C3), ``c2f``, ``elan``, or ``gsconv``, which makes the convolutions of stride 2
            GSConv too (slim-neck, arXiv 2206.02424).
        top_down: also return the three maps of the top-down way (channels of strides 8, 16 and 16's again), which an
            auxiliary head is taught on.
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
        block: Block = "csp",
        top_down: bool = False,
    ) -> None:
        super().__init__()
        if len(in_channels) != 3:
            raise ValueError(f"YOLOXPAFPN joins three maps, got {len(in_channels)}")
        self.top_down = top_down
        c3, c4, c5 = in_channels
        count = max(round(3 * depth), 1)

        def join(first: int, last: int) -> nn.Module:
            return cross_stage(block, first, last, count, False, depthwise, activation)

        def down(channels: int) -> nn.Module:
            if block == "gsconv":
                return GSConv(channels, channels, 3, 2, activation)
            return spatial_conv(channels, channels, 3, 2, depthwise, activation)

        self.lateral_conv0 = BaseConv(c5, c4, 1, activation=activation)
        self.C3_p4 = join(2 * c4, c4)
        self.reduce_conv1 = BaseConv(c4, c3, 1, activation=activation)
        self.C3_p3 = join(2 * c3, c3)
        self.bu_conv2 = down(c3)
        self.C3_n3 = join(2 * c3, c4)
        self.bu_conv1 = down(c4)
        self.C3_n4 = join(2 * c4, c5)
        widths = in_channels if out_channels else ()
        self.stems = nn.ModuleList(BaseConv(c, out_channels or c, 1, activation=activation) for c in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of strides 8, 16, 32, each half the last -> the same strides, (B, C, H_l, W_l); see ``top_down``."""
        fine, middle, coarse = maps
        top = self.lateral_conv0(coarse)
        joined = self.C3_p4(torch.cat([_double(top), middle], 1))
        between = self.reduce_conv1(joined)
        p3 = self.C3_p3(torch.cat([_double(between), fine], 1))
        p4 = self.C3_n3(torch.cat([self.bu_conv2(p3), between], 1))
        p5 = self.C3_n4(torch.cat([self.bu_conv1(p4), top], 1))
        levels = [p3, p4, p5]
        levels = [stem(x) for stem, x in zip(self.stems, levels)] if self.stems else levels
        return [*levels, p3, joined, top] if self.top_down else levels


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
