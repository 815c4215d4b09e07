"""RepVGG: three branches in training, one 3x3 convolution afterwards (Ding et al., CVPR 2021, arXiv 2101.03697)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from bev.models.context_blocks import SqueezeExcitation
from bev.models.conv_module import Activation, build_activation
from bev.models.reparam import Reparameterised, fused_kernel, plain_conv
from bev.models.strided_conv import conv2d
from bev.registry import MODELS

Variant = Literal["a0", "a1", "a2", "b0", "b1", "b1g2", "b1g4", "b2", "b2g4", "b3", "b3g4"]


class _Shape(NamedTuple):
    blocks: tuple[int, int, int, int]
    width: tuple[float, float, float, float]
    groups: int = 1


_A, _B = (2, 4, 14, 1), (4, 6, 16, 1)
_VARIANTS: dict[str, _Shape] = {
    "a0": _Shape(_A, (0.75, 0.75, 0.75, 2.5)),
    "a1": _Shape(_A, (1, 1, 1, 2.5)),
    "a2": _Shape(_A, (1.5, 1.5, 1.5, 2.75)),
    "b0": _Shape(_B, (1, 1, 1, 2.5)),
    **{f"b1{name}": _Shape(_B, (2, 2, 2, 4), groups) for name, groups in (("", 1), ("g2", 2), ("g4", 4))},
    **{f"b2{name}": _Shape(_B, (2.5, 2.5, 2.5, 5), groups) for name, groups in (("", 1), ("g4", 4))},
    **{f"b3{name}": _Shape(_B, (3, 3, 3, 5), groups) for name, groups in (("", 1), ("g4", 4))},
}


def _conv_norm(in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int) -> nn.Sequential:
    part = nn.Sequential()
    conv = conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups, bias=False)
    part.add_module("conv", conv)
    part.add_module("bn", nn.BatchNorm2d(out_channels))
    return part


class RepVGGBlock(Reparameterised):
    """3x3, 1x1 and identity, each with its batch norm, summed; then squeeze-excitation where asked, and activation.

    Parameters have the authors' names: ``rbr_dense``, ``rbr_1x1``, ``rbr_identity``; ``rbr_reparam`` in deploy form.

    Args:
        in_channels, out_channels, stride, groups: of the convolutions.
        identity: whether the third branch is there where the shape stays.
        squeeze: squeeze-excitation before the activation.
        activation: at the end.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        groups: int = 1,
        identity: bool = True,
        squeeze: bool = False,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.rbr_identity: nn.BatchNorm2d | None = None
        if identity and stride == 1 and in_channels == out_channels:
            self.rbr_identity = nn.BatchNorm2d(in_channels)
        self.rbr_dense = _conv_norm(in_channels, out_channels, 3, stride, groups)
        self.rbr_1x1 = _conv_norm(in_channels, out_channels, 1, stride, groups)
        self.se = SqueezeExcitation(out_channels, out_channels // 16, names=("down", "up")) if squeeze else None
        self.nonlinearity = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        if hasattr(self, "rbr_reparam"):
            result = self.rbr_reparam(x)
        else:
            result = self.rbr_dense(x) + self.rbr_1x1(x)
            if self.rbr_identity is not None:
                result = result + self.rbr_identity(x)
        return self.nonlinearity(result if self.se is None else self.se(result))

    @torch.no_grad()
    def switch_to_deploy(self) -> bool:
        """Sum the branches, each with its norm folded in, into ``rbr_reparam`` (RepVGG, section 3.2); False where that
        is done already."""
        if hasattr(self, "rbr_reparam"):
            return False
        (dense, norm), (point, point_norm) = self.rbr_dense.children(), self.rbr_1x1.children()
        assert isinstance(dense, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert isinstance(point, nn.Conv2d) and isinstance(point_norm, nn.BatchNorm2d)
        pairs = [fused_kernel(dense, norm, 3), fused_kernel(point, point_norm, 3)]
        if self.rbr_identity is not None:
            pairs.append(fused_kernel(None, self.rbr_identity, 3, dense.groups))
        kernels, biases = zip(*pairs)
        self.rbr_reparam = plain_conv(dense, torch.stack(kernels).sum(0), torch.stack(biases).sum(0))
        del self.rbr_dense, self.rbr_1x1, self.rbr_identity
        return True


@MODELS.register_module()
class RepVGG(nn.Module):
    """A plain chain of :class:`RepVGGBlock`, strides 2 to 32, with the authors' parameter names.

    Args:
        variant: ``a0`` to ``b3g4`` (B2 and B3 with groups in every second block where the name says so).
        out_stages: stages (0 to 4, strides 2 to 32) whose maps are returned, rising.
        frozen_stages: -1 trains everything; k freezes stages 0 to k.
        num_classes: also build the published classifier ``linear``, see :meth:`classify`.
        width: factor of the variant's widths.
        blocks: blocks of stages 1 to 4 where they are not the variant's.

    Raises:
        ValueError: unknown variant or stage.
    """

    def __init__(
        self,
        variant: Variant = "a0",
        out_stages: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        num_classes: int | None = None,
        width: float = 1.0,
        blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if variant not in _VARIANTS:
            raise ValueError(f"RepVGG variant {variant!r} is not one of {', '.join(_VARIANTS)}")
        if not out_stages or list(out_stages) != sorted(set(out_stages)) or not set(out_stages) <= set(range(5)):
            raise ValueError(f"RepVGG out_stages {tuple(out_stages)} must be rising stages of 0 to 4")
        shape = _VARIANTS[variant]
        self.out_stages, self.frozen_stages = tuple(out_stages), frozen_stages
        widths = [int(c * w * width) for c, w in zip((64, 128, 256, 512), shape.width)]
        channels = min(64, widths[0])
        self.stage0 = RepVGGBlock(3, channels, 2)
        self.out_channels = [channels]
        number = 1  # of the block in the whole network: every second one may have groups
        for stage, (out_channels, count) in enumerate(zip(widths, blocks or shape.blocks), start=1):
            layers = []
            for index in range(count):
                groups = shape.groups if number % 2 == 0 and number <= 26 else 1
                layers.append(RepVGGBlock(channels, out_channels, 1 if index else 2, groups))
                channels, number = out_channels, number + 1
            self.add_module(f"stage{stage}", nn.Sequential(*layers))
            self.out_channels.append(channels)
        self.out_channels = [self.out_channels[stage] for stage in self.out_stages]
        if num_classes is not None:
            self.linear = nn.Linear(channels, num_classes)
        for stage in range(frozen_stages + 1):
            getattr(self, f"stage{stage}").requires_grad_(False)

    def train(self, mode: bool = True) -> RepVGG:
        """Training mode, except for what is frozen: those norms keep their running statistics."""
        super().train(mode)
        for stage in range(self.frozen_stages + 1):
            getattr(self, f"stage{stage}").eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_stages``, finest first."""
        x, maps = images, []
        for stage in range(max(self.out_stages) + 1):
            x = getattr(self, f"stage{stage}")(x)
            if stage in self.out_stages:
                maps.append(x)
        return maps

    def classify(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, num_classes) logits; needs ``num_classes``."""
        x = images
        for stage in range(5):
            x = getattr(self, f"stage{stage}")(x)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits
