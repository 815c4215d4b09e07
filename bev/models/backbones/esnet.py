"""ESNet, PicoDet's backbone (arXiv 2111.00902, section 3.1), with PaddleDetection's parameter names.

ShuffleNetV2 whose units have squeeze-excitation and widths of their own, found by search. Paddle calls a norm's running
mean and variance ``_mean`` and ``_variance``; torch's names are kept here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.backbones.sequential import check_out_indices, make_divisible
from bev.models.backbones.shufflenet import shuffle_channels
from bev.models.context_blocks import SqueezeExcitation
from bev.models.conv_module import Activation, build_activation
from bev.models.strided_conv import conv2d
from bev.registry import MODELS

_STEM = 24
_STAGES = (128, 256, 512)
_BLOCKS = (3, 7, 3)
_SE_NAMES = ("conv1", "conv2")


class _ConvNorm(nn.Module):
    """Convolution, norm and perhaps an activation, as ``_conv`` and ``_batch_norm``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = "hardswish",
    ) -> None:
        super().__init__()
        self._conv = conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups, bias=False)
        nn.init.kaiming_normal_(self._conv.weight, mode="fan_out", nonlinearity="relu")
        self._batch_norm = nn.BatchNorm2d(out_channels)
        self._activation = nn.Identity() if activation is None else build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        result: Tensor = self._activation(self._batch_norm(self._conv(x)))
        return result


def _depthwise(channels: int, stride: int = 1, activation: Activation | None = None) -> _ConvNorm:
    return _ConvNorm(channels, channels, 3, stride, channels, activation)


def _attention(channels: int) -> SqueezeExcitation:
    return SqueezeExcitation(channels, channels // 4, gate="hardsigmoid", names=_SE_NAMES)


class ESUnit(nn.Module):
    """Half of the channels pass; the others are widened, seen by a depthwise convolution beside themselves, attended.

    Args:
        channels: in and out.
        middle: width within, both ways together.
    """

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self._conv_pw = _ConvNorm(channels // 2, middle // 2)
        self._conv_dw = _depthwise(middle // 2)
        self._se = _attention(middle)
        self._conv_linear = _ConvNorm(middle, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        kept, moved = x.chunk(2, 1)
        moved = self._conv_pw(moved)
        moved = self._conv_linear(self._se(torch.cat([moved, self._conv_dw(moved)], 1)))
        return shuffle_channels(torch.cat([kept, moved], 1))


class ESReduction(nn.Module):
    """Two ways of stride 2, side by side, and a separable convolution in place of the shuffle.

    Args:
        in_channels, out_channels: shape.
        middle: width of the attended way, times two.
    """

    def __init__(self, in_channels: int, out_channels: int, middle: int) -> None:
        super().__init__()
        half, within = out_channels // 2, middle // 2
        self._conv_dw_1, self._conv_linear_1 = _depthwise(in_channels, 2), _ConvNorm(in_channels, half)
        self._conv_pw_2, self._conv_dw_2 = _ConvNorm(in_channels, within), _depthwise(within, 2)
        self._se = _attention(within)
        self._conv_linear_2 = _ConvNorm(within, half)
        self._conv_dw_mv1 = _depthwise(out_channels, activation="hardswish")
        self._conv_pw_mv1 = _ConvNorm(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, ceil(H / 2), ceil(W / 2))."""
        first = self._conv_linear_1(self._conv_dw_1(x))
        second = self._conv_linear_2(self._se(self._conv_dw_2(self._conv_pw_2(x))))
        result: Tensor = self._conv_pw_mv1(self._conv_dw_mv1(torch.cat([first, second], 1)))
        return result


@MODELS.register_module()
class ESNet(nn.Module):
    """Stem with max pooling, three stages that begin with :class:`ESReduction` and go on with :class:`ESUnit`.

    Args:
        width: factor of the stages' channels (PicoDet-S 0.75, M 1, L 1.25; width 1: 128, 256, 512).
        ratios: of the width within each of the 13 units to its stage's channels.
        out_indices: which of the maps of strides 4, 8, 16, 32 are returned, rising.

    Raises:
        ValueError: another number of ratios, or maps that do not exist.
    """

    def __init__(
        self, width: float = 1.0, ratios: Sequence[float] = (1.0,) * 13, out_indices: Sequence[int] = (1, 2, 3)
    ) -> None:
        super().__init__()
        if len(ratios) != sum(_BLOCKS):
            raise ValueError(f"ESNet has {sum(_BLOCKS)} units and needs a ratio for each, got {len(ratios)}")
        self.out_indices = check_out_indices("ESNet", out_indices, 1 + len(_STAGES))
        self._conv1 = _ConvNorm(3, _STEM, 3, 2)
        self._max_pool = nn.MaxPool2d(3, 2, 1)
        widths = [make_divisible(channels * width, 16) for channels in _STAGES]
        rest, channels = iter(ratios), _STEM
        self._stages: list[list[str]] = []
        for stage, (out_channels, count) in enumerate(zip(widths, _BLOCKS), start=2):
            names = [f"{stage}_{number + 1}" for number in range(count)]
            for name in names:
                middle = make_divisible(int(out_channels * next(rest)))
                unit = ESUnit(channels, middle) if name != names[0] else ESReduction(channels, out_channels, middle)
                self.add_module(name, unit)
                channels = out_channels
            self._stages.append(names)
        self.out_channels = [(_STEM, *widths)[index] for index in self.out_indices]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_indices``, finest first."""
        maps = [self._max_pool(self._conv1(images))]
        for stage in range(max(self.out_indices)):
            x = maps[-1]
            for name in self._stages[stage]:
                x = getattr(self, name)(x)
            maps.append(x)
        return [maps[index] for index in self.out_indices]
