"""Convolution, norm and activation by number (``0``, ``1``, ``2``), as torchvision's mobile networks name them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.conv_module import BN, Activation, Norm, build_activation
from bev.models.strided_conv import conv2d

PLAIN_NORM = BN()


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = None,
    norm: Norm = PLAIN_NORM,
) -> nn.Sequential:
    """A convolution without bias, "same" padding, its norm, and an activation where there is one."""
    conv = conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    layers: list[nn.Module] = [conv, norm.build(out_channels)]
    return nn.Sequential(*layers, *([] if activation is None else [build_activation(activation)]))


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor``, not below nine tenths of the value (MobileNet's rule for widths)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def check_out_indices(name: str, out_indices: Sequence[int], count: int) -> tuple[int, ...]:
    """The same, as a tuple. Raises ValueError where they are not rising maps of 0 to ``count`` - 1."""
    chosen = tuple(out_indices)
    if not chosen or list(chosen) != sorted(set(chosen)) or not set(chosen) <= set(range(count)):
        raise ValueError(f"{name} out_indices {chosen} must be rising maps of 0 to {count - 1}")
    return chosen


def run_and_tap(layers: Sequence[nn.Module], x: Tensor, taps: Sequence[int]) -> list[Tensor]:
    """The maps after layers number ``taps``, in order; layers beyond the last one do not run."""
    maps = []
    for number in range(max(taps) + 1):
        x = layers[number](x)
        if number in taps:
            maps.append(x)
    return maps
