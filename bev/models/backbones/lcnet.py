"""PP-LCNet (arXiv 2109.15099) with PaddleDetection's parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from bev.models.backbones.sequential import check_out_indices, make_divisible
from bev.models.context_blocks import SqueezeExcitation
from bev.models.conv_module import ConvModule
from bev.registry import MODELS


class _Block(NamedTuple):
    kernel: int
    channels: int
    stride: int = 1
    attended: bool = False


# Table 1 of the paper: the stages "blocks2" to "blocks6"; the first two lie within stride 4.
_STAGES = (
    (_Block(3, 32),),
    (_Block(3, 64, 2), _Block(3, 64)),
    (_Block(3, 128, 2), _Block(3, 128)),
    (_Block(3, 256, 2), *[_Block(5, 256)] * 5),
    (_Block(5, 512, 2, True), _Block(5, 512, 1, True)),
)
_STEM = 16


class DepthwiseSeparable(nn.Module):
    """A depthwise convolution, perhaps squeeze-excitation, a 1x1 convolution; hard swish after both.

    Args:
        in_channels, out_channels, kernel_size, stride: shape.
        attended: with squeeze-excitation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, attended: bool = False
    ) -> None:
        super().__init__()
        self.dw_conv = ConvModule(
            in_channels, in_channels, kernel_size, stride, activation="hardswish", groups=in_channels
        )
        self.se: nn.Module = nn.Identity()
        if attended:
            self.se = SqueezeExcitation(in_channels, in_channels // 4, gate="hardsigmoid", names=("conv1", "conv2"))
        self.pw_conv = ConvModule(in_channels, out_channels, 1, activation="hardswish")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        result: Tensor = self.pw_conv(self.se(self.dw_conv(x)))
        return result


@MODELS.register_module()
class LCNet(nn.Module):
    """Separable convolutions in a row, no shortcuts, wide kernels and attention at the end.

    Args:
        width: factor of all channels (width 1: 64, 128, 256, 512 at strides 4 to 32).
        out_indices: which of the maps of strides 4, 8, 16, 32 are returned, rising.

    Raises:
        ValueError: maps that do not exist.
    """

    def __init__(self, width: float = 1.0, out_indices: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__()
        self.out_indices = check_out_indices("LCNet", out_indices, len(_STAGES) - 1)
        channels = make_divisible(_STEM * width)
        self.conv1 = ConvModule(3, channels, 3, 2, activation="hardswish")
        widths = []
        for number, stage in enumerate(_STAGES, start=2):
            blocks = []
            for block in stage:
                wide = make_divisible(block.channels * width)
                blocks.append(DepthwiseSeparable(channels, wide, block.kernel, block.stride, block.attended))
                channels = wide
            self.add_module(f"blocks{number}", nn.Sequential(*blocks))
            widths.append(channels)
        self.out_channels = [widths[1 + index] for index in self.out_indices]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_indices``, finest first."""
        maps, x = [], self.get_submodule("blocks2")(self.conv1(images))
        for number in range(3, 4 + max(self.out_indices)):
            x = self.get_submodule(f"blocks{number}")(x)
            maps.append(x)
        return [maps[index] for index in self.out_indices]
