"""Convolution, norm and activation with the parameter names of mmcv's ConvModule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from bev.models.deform_conv import ModulatedDeformConv2d
from bev.models.strided_conv import conv2d
from bev.registry import MODELS

Activation = Literal["relu", "silu", "leaky_relu", "relu6", "hardswish", "sigmoid", "hardsigmoid"]

_ACTIVATIONS: dict[str, type[nn.Module] | tuple[type[nn.Module], float]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
}
_LEAKY_SLOPE = 0.1  # Darknet's


def build_activation(name: Activation) -> nn.Module:
    """The activation of that name, in place where torch can. Raises ValueError for another name."""
    if name == "leaky_relu":
        return nn.LeakyReLU(_LEAKY_SLOPE, inplace=True)
    if name == "sigmoid":
        return nn.Sigmoid()
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not one of {', '.join(sorted([*_ACTIVATIONS, 'leaky_relu']))}")
    return _ACTIVATIONS[name](inplace=True)  # type: ignore[operator]


class Norm(ABC):
    """Which norm follows a convolution; a part of a configuration.

    Attributes:
        name: of the norm's module within a ConvModule.
    """

    name: str

    @abstractmethod
    def build(self, channels: int) -> nn.Module:
        """A norm of that many channels."""


@MODELS.register_module()
class BN(Norm):
    """Batch norm; ``eps`` and ``momentum`` as in ``nn.BatchNorm2d``."""

    name = "bn"

    def __init__(self, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.eps, self.momentum = eps, momentum

    def build(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, self.eps, self.momentum)


@MODELS.register_module()
class GN(Norm):
    """Group norm of ``num_groups`` groups."""

    name = "gn"

    def __init__(self, num_groups: int = 32, eps: float = 1e-5) -> None:
        self.num_groups, self.eps = num_groups, eps

    def build(self, channels: int) -> nn.Module:
        return nn.GroupNorm(self.num_groups, channels, self.eps)


class ConvModule(nn.Module):
    """``conv`` (no bias where a norm follows), optional ``bn`` or ``gn``, optional activation.

    Args:
        in_channels, out_channels, kernel_size, stride: of the convolution.
        norm: after it; True is batch norm.
        activation: at the end; True is ReLU.
        groups: of the convolution; ``in_channels`` makes it depthwise.
        bias: of the convolution; None where there is no norm.
        deformable: DCNv2 in place of the convolution.
        padding: of the convolution; None is "same" for odd kernels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        norm: bool | Norm | None = True,
        activation: bool | Activation | None = True,
        groups: int = 1,
        bias: bool | None = None,
        deformable: bool = False,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        norm = BN() if norm is True else norm
        padding = kernel_size // 2 if padding is None else padding
        bias = not norm if bias is None else bias
        if deformable:
            self.conv: nn.Conv2d = ModulatedDeformConv2d(
                in_channels, out_channels, kernel_size, stride, padding, bias=bias
            )
        else:
            self.conv = conv2d(in_channels, out_channels, kernel_size, stride, padding, groups, bias)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.norm_name = norm.name if norm else ""
        if norm:
            self.add_module(norm.name, norm.build(out_channels))
        name: Activation = "relu" if activation is True else activation or "relu"
        self.activate = build_activation(name) if activation else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        x = self.conv(x)
        if self.norm_name:
            x = getattr(self, self.norm_name)(x)
        return x if self.activate is None else self.activate(x)


class DepthwiseConvModule(nn.Module):
    """A depthwise convolution of ``kernel_size`` and a 1x1 one, each with norm and activation (MobileNet).

    Names as mmcv's DepthwiseSeparableConvModule has them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        norm: bool | Norm = True,
        activation: bool | Activation = True,
    ) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(
            in_channels, in_channels, kernel_size, stride, norm, activation, groups=in_channels
        )
        self.pointwise_conv = ConvModule(in_channels, out_channels, 1, 1, norm, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.pointwise_conv(self.depthwise_conv(x))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (1x1 where the shape changes)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvModule(in_channels, out_channels, 3, stride)
        self.conv2 = ConvModule(out_channels, out_channels, 3, activation=False)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else ConvModule(in_channels, out_channels, 1, stride, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H / stride, W / stride)."""
        return nn.functional.relu(self.conv2(self.conv1(x)) + self.shortcut(x), inplace=True)
