"""Convolutions that also train where a strided 1x1 one of few channels would end the interpreter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Floats of the widest vector register (AVX-512), the block of channels that oneDNN's kernel takes.
_BLOCK = 16


class SparsePointwise2d(nn.Conv2d):
    """A 1x1 convolution that drops the pixels its stride skips before, not while, it computes gradients.

    oneDNN's gradient of the weight of a strided 1x1 convolution writes past its workspace where the picture is
    channels_last and has fewer channels than a block (8 with AVX2, 16 with AVX-512): a crash, a hang or wrong numbers,
    by size and threads (https://github.com/uxlfoundation/oneDNN/issues/6035; met in torch 2.13, float32 and bfloat16).
    Without gradients, so in an exported graph too, and on other devices it is ``nn.Conv2d``. Parameters and results
    are those of ``nn.Conv2d`` throughout.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        vertical, horizontal = self.stride
        return nn.functional.conv2d(x[..., ::vertical, ::horizontal], self.weight, self.bias)


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
) -> nn.Conv2d:
    """``nn.Conv2d``, or :class:`SparsePointwise2d` for those shapes alone that need it."""
    strided_point = kernel_size == 1 and stride > 1 and padding == 0 and groups == 1
    kind = SparsePointwise2d if strided_point and in_channels < _BLOCK else nn.Conv2d
    return kind(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
