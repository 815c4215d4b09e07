"""Path aggregation of one narrow width with depthwise convolutions, and a fourth level (PicoDet, arXiv 2111.00902)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.conv_module import Activation, ConvModule, DepthwiseConvModule
from bev.registry import MODELS


class LightCSP(nn.Module):
    """Two 1x1 ways, one of them on through a depthwise convolution; joined (figure 2, CSP-PAN)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, activation: Activation) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.main_conv = ConvModule(in_channels, hidden, 1, activation=activation)
        self.short_conv = ConvModule(in_channels, hidden, 1, activation=activation)
        self.spatial = DepthwiseConvModule(hidden, hidden, kernel_size, activation=activation)
        self.final_conv = ConvModule(2 * hidden, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        joined = torch.cat([self.spatial(self.main_conv(x)), self.short_conv(x)], 1)
        result: Tensor = self.final_conv(joined)
        return result


@MODELS.register_module()
class LightPAN(nn.Module):
    """All maps to one width by 1x1 convolutions, top-down, bottom-up, and one level more (CSP-PAN, section 3.2).

    Args:
        in_channels: of the backbone's maps, finest first.
        out_channels: of all levels (published: 96 small, 128 medium, 160 large).
        kernel_size: of the depthwise convolutions.
        activation: everywhere.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 96,
        kernel_size: int = 5,
        activation: Activation = "hardswish",
    ) -> None:
        super().__init__()
        count = len(in_channels)

        def down() -> DepthwiseConvModule:
            return DepthwiseConvModule(out_channels, out_channels, kernel_size, 2, activation=activation)

        def join() -> LightCSP:
            return LightCSP(2 * out_channels, out_channels, kernel_size, activation)

        self.reduce = nn.ModuleList(ConvModule(c, out_channels, 1, activation=activation) for c in in_channels)
        self.top_down = nn.ModuleList(join() for _ in range(count - 1))
        self.downs = nn.ModuleList(down() for _ in range(count - 1))
        self.bottom_up = nn.ModuleList(join() for _ in range(count - 1))
        self.extra_input, self.extra_output = down(), down()

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l), finest first -> one level more than maps, (B, out_channels, H_l, W_l)."""
        inputs = [conv(x) for conv, x in zip(self.reduce, maps)]
        levels = [inputs[-1]]
        for k in range(len(maps) - 2, -1, -1):
            raised = F.interpolate(levels[0], size=inputs[k].shape[-2:], mode="nearest")
            levels.insert(0, self.top_down[k](torch.cat([raised, inputs[k]], 1)))
        outputs = [levels[0]]
        for k, (down, join) in enumerate(zip(self.downs, self.bottom_up)):
            outputs.append(join(torch.cat([down(outputs[-1]), levels[k + 1]], 1)))
        return [*outputs, self.extra_input(inputs[-1]) + self.extra_output(outputs[-1])]
