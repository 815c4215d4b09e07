"""PP-YOLOE's path aggregation network (arXiv 2203.16250, section 2.2): RepVGG blocks in CSP layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.backbones.csp_rep import CSPRepLayer, scaled
from bev.models.conv_module import Activation, ConvModule
from bev.registry import MODELS


@MODELS.register_module()
class CSPRepPAN(nn.Module):
    """Top-down, then bottom-up, joined by concatenation; pooled pyramid in the coarsest layer.

    Args:
        in_channels: of the backbone's maps, finest first.
        out_channels: of the levels at width 1, finest first (published: 192, 384, 768).
        depth, width: factors of the blocks (3 a layer) and of ``out_channels``.
        activation: everywhere.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int] = (192, 384, 768),
        depth: float = 1.0,
        width: float = 1.0,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        if len(in_channels) != len(out_channels):
            raise ValueError(f"CSPRepPAN: {len(in_channels)} maps but {len(out_channels)} levels")
        widths = [scaled(channels, width) for channels in out_channels]
        count, levels = scaled(3, depth), len(widths)

        def layer(before: int, after: int, pooled: bool = False) -> CSPRepLayer:
            return CSPRepLayer(before, after // 2, after, count, False, activation, pooled=pooled)

        coarsest = levels - 1
        # Of the top-down way, finest first: a layer, and the 1x1 convolution from the level above it.
        self.fpn_layers = nn.ModuleList(
            layer(in_channels[k] + (widths[k + 1] // 2 if k < coarsest else 0), widths[k], k == coarsest)
            for k in range(levels)
        )
        self.fpn_routes = nn.ModuleList(ConvModule(c, c // 2, 1, activation=activation) for c in widths[1:])
        self.pan_routes = nn.ModuleList(ConvModule(c, c, 3, 2, activation=activation) for c in widths[:-1])
        self.pan_layers = nn.ModuleList(layer(a + b, b) for a, b in zip(widths[:-1], widths[1:]))
        self.out_channels = widths

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l), finest first, each half the last -> as many levels, finest first."""
        levels = [self.fpn_layers[-1](maps[-1])]
        for k in range(len(maps) - 2, -1, -1):
            raised = F.interpolate(self.fpn_routes[k](levels[0]), scale_factor=2.0, mode="nearest")
            levels.insert(0, self.fpn_layers[k](torch.cat([raised, maps[k]], 1)))
        outputs = [levels[0]]
        for k, (route, layer) in enumerate(zip(self.pan_routes, self.pan_layers)):
            outputs.append(layer(torch.cat([route(outputs[-1]), levels[k + 1]], 1)))
        return outputs
