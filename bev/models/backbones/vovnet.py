"""VoVNet with effective squeeze-excitation (Lee and Park, CenterMask, CVPR 2020, arXiv 1911.06667)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.registry import MODELS

# Of each published network: stem widths, width inside and out of the four stages, layers a block, blocks a stage.
SPECS: dict[str, dict[str, Any]] = {
    "V-39-eSE": {
        "stem": (64, 64, 128),
        "stage_conv_ch": (128, 160, 192, 224),
        "stage_out_ch": (256, 512, 768, 1024),
        "layer_per_block": 5,
        "block_per_stage": (1, 1, 2, 2),
    },
    "V-57-eSE": {
        "stem": (64, 64, 128),
        "stage_conv_ch": (128, 160, 192, 224),
        "stage_out_ch": (256, 512, 768, 1024),
        "layer_per_block": 5,
        "block_per_stage": (1, 1, 4, 3),
    },
    "V-99-eSE": {
        "stem": (64, 64, 128),
        "stage_conv_ch": (128, 160, 192, 224),
        "stage_out_ch": (256, 512, 768, 1024),
        "layer_per_block": 5,
        "block_per_stage": (1, 3, 9, 3),
    },
}
_NUM_STAGES = 4  # stage2 to stage5, strides 4 to 32


def _conv(name: str, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[tuple[str, nn.Module]]:
    """Convolution, norm and ReLU under the published names, which hold a slash."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight)
    return [(f"{name}/conv", convolution), (f"{name}/norm", nn.BatchNorm2d(out_channels)), (f"{name}/relu", nn.ReLU(True))]


class EffectiveSE(nn.Module):
    """Channels scaled by a hard sigmoid of one fully connected layer over their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class OneShotAggregation(nn.Module):
    """Convolutions in a row whose results are joined once, at the end.

    Args:
        in_channels, channels, out_channels: of the input, of every layer inside, of the result.
        layers: number of 3x3 convolutions.
        name: published name of the block.
        identity: add the input to the result.
    """

    def __init__(
        self, in_channels: int, channels: int, out_channels: int, layers: int, name: str, identity: bool
    ) -> None:
        super().__init__()
        self.identity = identity
        widths = [in_channels] + [channels] * layers
        self.layers = nn.ModuleList(
            nn.Sequential(OrderedDict(_conv(f"{name}_{i}", widths[i], channels, 3))) for i in range(layers)
        )
        self.concat = nn.Sequential(OrderedDict(_conv(f"{name}_concat", sum(widths), out_channels, 1)))
        self.ese = EffectiveSE(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W)."""
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        result = self.ese(self.concat(torch.cat(maps, 1)))
        return result + x if self.identity else result


@MODELS.register_module()
class VoVNet(nn.Module):
    """VoVNet-eSE with the parameter names of DETR3D's and PETR's checkpoints.

    Args:
        spec: ``"V-39-eSE"``, ``"V-57-eSE"``, ``"V-99-eSE"`` or a dict with the same keys.
        out_indices: stages (0 to 3: published names stage2 to stage5, strides 4 to 32) whose maps are returned.
        frozen_stages: -1 trains everything; 0 freezes the stem, k the stem and the first k stages.
        norm_eval: batch norms keep their running statistics in training mode too.

    Raises:
        ValueError: unknown spec or stage.
    """

    def __init__(
        self,
        spec: str | Mapping[str, Any] = "V-99-eSE",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(spec, str) and spec not in SPECS:
            raise ValueError(f"VoVNet spec {spec!r} is not one of {sorted(SPECS)}")
        if not out_indices or not set(out_indices) <= set(range(_NUM_STAGES)) or not -1 <= frozen_stages <= _NUM_STAGES:
            raise ValueError(f"VoVNet has stages 0 to 3, got out_indices {out_indices}, frozen_stages {frozen_stages}")
        shape = SPECS[spec] if isinstance(spec, str) else spec
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        widths = [3, *shape["stem"]]
        stem = [_conv(f"stem_{i + 1}", widths[i], widths[i + 1], 3, 1 if i == 1 else 2) for i in range(3)]
        self.stem = nn.Sequential(OrderedDict(layer for part in stem for layer in part))
        channels = widths[-1]
        for stage in range(_NUM_STAGES):
            self.add_module(f"stage{stage + 2}", _stage(stage, channels, shape))
            channels = shape["stage_out_ch"][stage]
        self.out_channels = [shape["stage_out_ch"][stage] for stage in self.out_indices]
        for module in self._frozen_modules():
            module.requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.stem, *(getattr(self, f"stage{k + 2}") for k in range(self.frozen_stages))]

    def train(self, mode: bool = True) -> VoVNet:
        """Training mode, except for what is frozen: those norms keep their running statistics."""
        super().train(mode)
        for module in [self] if self.norm_eval else self._frozen_modules():
            for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_indices``, finest first."""
        x, maps = self.stem(images), []
        for stage in range(max(self.out_indices) + 1):
            x = getattr(self, f"stage{stage + 2}")(x)
            if stage in self.out_indices:
                maps.append(x)
        return maps


def _stage(stage: int, in_channels: int, shape: Mapping[str, Any]) -> nn.Sequential:
    inside, outside = shape["stage_conv_ch"][stage], shape["stage_out_ch"][stage]
    parts: list[tuple[str, nn.Module]] = []
    if stage:
        parts.append(("Pooling", nn.MaxPool2d(3, 2, ceil_mode=True)))
    for block in range(shape["block_per_stage"][stage]):
        name = f"OSA{stage + 2}_{block + 1}"
        before = outside if block else in_channels
        parts.append((name, OneShotAggregation(before, inside, outside, shape["layer_per_block"], name, block > 0)))
    return nn.Sequential(OrderedDict(parts))
