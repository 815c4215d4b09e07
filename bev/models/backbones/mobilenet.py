"""MobileNetV2 (CVPR 2018, arXiv 1801.04381) and V3 (ICCV 2019, arXiv 1905.02244) with torchvision's parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from bev.models.backbones.sequential import check_out_indices, conv_norm, make_divisible, run_and_tap
from bev.models.context_blocks import SqueezeExcitation
from bev.models.conv_module import BN, Activation
from bev.registry import MODELS

# Expansion, channels, blocks, stride of the first block (V2, table 2).
_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_V3_NORM = BN(eps=1e-3, momentum=0.01)


class _V3(NamedTuple):
    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    activation: Activation
    stride: int


def _rows(text: str) -> tuple[_V3, ...]:
    """Rows ``kernel expanded channels SE(0/1) activation stride``."""
    names: dict[str, Activation] = {"re": "relu", "hs": "hardswish"}
    rows = (row.split() for row in text.split(","))
    return tuple(_V3(int(k), int(e), int(c), s == "1", names[a], int(t)) for k, e, c, s, a, t in rows)


# V3, tables 1 and 2.
_LARGE = _rows(
    "3 16 16 0 re 1, 3 64 24 0 re 2, 3 72 24 0 re 1, 5 72 40 1 re 2, 5 120 40 1 re 1, 5 120 40 1 re 1,"
    "3 240 80 0 hs 2, 3 200 80 0 hs 1, 3 184 80 0 hs 1, 3 184 80 0 hs 1, 3 480 112 1 hs 1, 3 672 112 1 hs 1,"
    "5 672 160 1 hs 2, 5 960 160 1 hs 1, 5 960 160 1 hs 1"
)
_SMALL = _rows(
    "3 16 16 1 re 2, 3 72 24 0 re 2, 3 88 24 0 re 1, 5 96 40 1 hs 2, 5 240 40 1 hs 1, 5 240 40 1 hs 1,"
    "5 120 48 1 hs 1, 5 144 48 1 hs 1, 5 288 96 1 hs 2, 5 576 96 1 hs 1, 5 576 96 1 hs 1"
)
_HIDDEN = {"large": 1280, "small": 1024}  # of V3's classifier


class InvertedResidual(nn.Module):
    """Expand, convolve each channel alone, project; added to the input where the shape stays.

    Args:
        in_channels, expanded, out_channels, kernel_size, stride: shape.
        activation: of the first two convolutions.
        version: 2 or 3, whose names and norms it has.
        squeeze: squeeze-excitation before the projection (V3).
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        activation: Activation = "relu6",
        version: Literal[2, 3] = 2,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        self.shortcut = stride == 1 and in_channels == out_channels
        norm = BN() if version == 2 else _V3_NORM
        layers: list[nn.Module] = []
        if expanded != in_channels:
            layers.append(conv_norm(in_channels, expanded, 1, 1, 1, activation, norm))
        layers.append(conv_norm(expanded, expanded, kernel_size, stride, expanded, activation, norm))
        if squeeze:
            layers.append(SqueezeExcitation(expanded, make_divisible(expanded / 4), "relu", "hardsigmoid"))
        project = conv_norm(expanded, out_channels, 1, norm=norm)
        layers += list(project) if version == 2 else [project]
        # torchvision's names: V2's four layers are flat, V3's project is one.
        self.name = "conv" if version == 2 else "block"
        self.add_module(self.name, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        result: Tensor = getattr(self, self.name)(x)
        return x + result if self.shortcut else result


class _MobileNet(nn.Module):
    """``features`` whose strides 2, 4, 8, 16 and 32 end at the layers ``taps``."""

    features: nn.Sequential
    classifier: nn.Sequential
    taps: list[int]
    out_indices: tuple[int, ...]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_indices``, finest first."""
        return run_and_tap(list(self.features), images, [self.taps[index] for index in self.out_indices])

    def classify(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, num_classes) logits; needs ``num_classes``."""
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


def _last_of_each_stride(strides: Sequence[int]) -> list[int]:
    """Numbers of the layers after which the stride grows, and of the last one."""
    return [n for n in range(len(strides)) if n + 1 == len(strides) or strides[n + 1] == 2]


@MODELS.register_module()
class MobileNetV2(_MobileNet):
    """Inverted residuals with linear bottlenecks.

    Args:
        width: factor of the channels.
        out_indices: which of the maps of strides 2, 4, 8, 16, 32 are returned, rising (of width 1: channels 16, 24, 32,
            96, 320).
        num_classes: also build the last convolution and the published classifier, see :meth:`classify`.

    Raises:
        ValueError: maps that do not exist.
    """

    def __init__(
        self, width: float = 1.0, out_indices: Sequence[int] = (2, 3, 4), num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.out_indices = check_out_indices("MobileNetV2", out_indices, 5)
        channels = make_divisible(32 * width)
        layers: list[nn.Module] = [conv_norm(3, channels, 3, 2, 1, "relu6")]
        strides, widths = [2], [channels]
        for expansion, base, count, stride in _V2:
            for index in range(count):
                out_channels = make_divisible(base * width)
                step = 1 if index else stride
                layers.append(InvertedResidual(channels, channels * expansion, out_channels, 3, step))
                channels = out_channels
                strides.append(step)
                widths.append(channels)
        self.taps = _last_of_each_stride(strides)
        self.out_channels = [widths[self.taps[index]] for index in self.out_indices]
        if num_classes is not None:
            last = make_divisible(1280 * max(1.0, width))
            layers.append(conv_norm(channels, last, 1, activation="relu6"))
            self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes))
        self.features = nn.Sequential(*layers)


@MODELS.register_module()
class MobileNetV3(_MobileNet):
    """Searched inverted residuals with squeeze-excitation and hard swish.

    Args:
        variant: ``"large"`` or ``"small"``.
        out_indices: which of the maps of strides 2, 4, 8, 16, 32 are returned, rising (large: channels 16, 24, 40,
            112, 160; small: 16, 16, 24, 48, 96).
        num_classes: also build the last convolution and the published classifier, see :meth:`classify`.

    Raises:
        ValueError: unknown variant, or maps that do not exist.
    """

    def __init__(
        self,
        variant: Literal["large", "small"] = "large",
        out_indices: Sequence[int] = (2, 3, 4),
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if variant not in _HIDDEN:
            raise ValueError(f"MobileNetV3 variant {variant!r} is neither 'large' nor 'small'")
        self.out_indices = check_out_indices("MobileNetV3", out_indices, 5)
        rows = _LARGE if variant == "large" else _SMALL
        channels = 16
        layers: list[nn.Module] = [conv_norm(3, channels, 3, 2, 1, "hardswish", _V3_NORM)]
        for row in rows:
            shape = (channels, row.expanded, row.channels, row.kernel, row.stride, row.activation)
            layers.append(InvertedResidual(*shape, version=3, squeeze=row.squeeze))
            channels = row.channels
        widths = [16, *(row.channels for row in rows)]
        self.taps = _last_of_each_stride([2, *(row.stride for row in rows)])
        self.out_channels = [widths[self.taps[index]] for index in self.out_indices]
        if num_classes is not None:
            last, hidden = 6 * channels, _HIDDEN[variant]
            layers.append(conv_norm(channels, last, 1, 1, 1, "hardswish", _V3_NORM))
            self.classifier = nn.Sequential(
                nn.Linear(last, hidden), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(hidden, num_classes)
            )
        self.features = nn.Sequential(*layers)
