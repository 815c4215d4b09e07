"""CSPDarknet as YOLOX has it, with the official parameter names, and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from bev.models.backbones.csp_blocks import Block, cross_stage
from bev.models.backbones.csp_darknet_parts import SPPF, Focus, SixConv, SPPBottleneck, spatial_conv
from bev.models.conv_module import Activation
from bev.registry import MODELS


@MODELS.register_module()
class CSPDarknet(nn.Module):
    """The backbone of YOLOX (arXiv 2107.08430): a stem and four cross-stage stages, strides 4 to 32.

    With ``stem="conv"`` and ``pooling="sppf"`` that of YOLOv5 from its release 6 on.

    Args:
        depth, width: factors of the bottlenecks and channels of the largest published network but one (1.0 is "l").
        depthwise: spatial convolutions are depthwise (nano).
        out_stages: which of the stages ``dark2`` to ``dark5`` are returned, rising.
        activation: everywhere.
        stem: ``focus``, or a 6x6 convolution of stride 2 (the same receptive field, for less copying).
        pooling: ``spp`` or ``sppf`` in the last stage: one function, of which the second is quicker. YOLOX puts it
            before the stage's last layer, YOLOv5 after it; so do ``spp`` and ``sppf``.
        block: of the stages: ``csp`` (C3), ``c2f`` (YOLOv8), ``elan``, ``gsconv``.
        blocks: bottlenecks of the stages at depth 1; YOLOv5 from release 6 on has 3, 6, 9, 3, YOLOv8 3, 6, 6, 3.
        last_shortcut: whether the last stage has shortcuts (YOLOv5 from release 6 on; YOLOX has none there).
    """

    def __init__(
        self,
        depth: float = 1.0,
        width: float = 1.0,
        depthwise: bool = False,
        out_stages: Sequence[int] = (3, 4, 5),
        activation: Activation = "silu",
        stem: Literal["focus", "conv"] = "focus",
        pooling: Literal["spp", "sppf"] = "spp",
        block: Block = "csp",
        blocks: Sequence[int] = (3, 9, 9, 3),
        last_shortcut: bool = False,
    ) -> None:
        super().__init__()
        if stem not in ("focus", "conv") or pooling not in ("spp", "sppf"):
            raise ValueError(f"CSPDarknet stem {stem!r} must be focus or conv, pooling {pooling!r} spp or sppf")
        if not set(out_stages) <= {2, 3, 4, 5} or list(out_stages) != sorted(set(out_stages)):
            raise ValueError(f"CSPDarknet out_stages {tuple(out_stages)} must be rising stages of 2 to 5")
        base = int(width * 64)
        self.out_stages = tuple(out_stages)
        self.stem = Focus(3, base, 3, activation) if stem == "focus" else SixConv(base, activation)
        for stage, full in enumerate(blocks, start=2):
            channels, count = base * 2 ** (stage - 2), max(round(depth * full), 1)
            layers = [spatial_conv(channels, channels * 2, 3, 2, depthwise, activation)]
            if stage == 5 and pooling == "spp":
                layers.append(SPPBottleneck(channels * 2, channels * 2, (5, 9, 13), activation))
            shortcut = stage != 5 or last_shortcut
            layers.append(cross_stage(block, channels * 2, channels * 2, count, shortcut, depthwise, activation))
            if stage == 5 and pooling == "sppf":
                layers.append(SPPF(channels * 2, channels * 2, activation))
            self.add_module(f"dark{stage}", nn.Sequential(*layers))
        self.out_channels = [base * 2 ** (stage - 1) for stage in self.out_stages]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W multiples of 32 -> the maps of ``out_stages``, finest first."""
        x, maps = self.stem(images), []
        for stage in range(2, max(self.out_stages) + 1):
            x = getattr(self, f"dark{stage}")(x)
            if stage in self.out_stages:
                maps.append(x)
        return maps
