"""Encoders of the bird's-eye-view grid in the published lift-splat detectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.backbones.resnet import BasicBlock, ResNet
from bev.registry import MODELS


@MODELS.register_module()
class BEVResNet(nn.Module):
    """Residual stages without a stem; parameter names of BEVDet's ``ResNetForBEVDet`` and ``CustomResNet``.

    The first block of every stage has a 3x3 convolution with bias and without norm as its shortcut.

    Args:
        in_channels: of the grid.
        channels: of every stage; None for 2, 4 and 8 times ``in_channels``.
        blocks: residual blocks of every stage.
        strides: of every stage.
        out_indices: stages whose maps are returned; None for all.

    Raises:
        ValueError: ``channels``, ``blocks`` and ``strides`` of different lengths.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] | None = None,
        blocks: Sequence[int] = (2, 2, 2),
        strides: Sequence[int] = (2, 2, 2),
        out_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        widths = [in_channels * 2 ** (i + 1) for i in range(len(blocks))] if channels is None else list(channels)
        if not len(widths) == len(blocks) == len(strides):
            raise ValueError(f"BEVResNet: channels {widths}, blocks {blocks} and strides {strides} differ in length")
        self.out_indices = tuple(range(len(blocks)) if out_indices is None else out_indices)
        stages = []
        for before, width, count, stride in zip([in_channels, *widths], widths, blocks, strides):
            first = BasicBlock(before, width, stride)
            first.downsample = nn.Conv2d(before, width, 3, stride, 1)  # type: ignore[assignment]
            rest = [BasicBlock(width, width) for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *rest))
        self.layers = nn.Sequential(*stages)

    def forward(self, bev: Tensor) -> list[Tensor]:
        """(B, in_channels, Y, X) -> maps of ``out_indices``, finest first."""
        maps = []
        for stage in self.layers:
            bev = stage(bev)
            maps.append(bev)
        return [maps[index] for index in self.out_indices]


@MODELS.register_module()
class BEVTrunk(ResNet):
    """BEVDepth's trunk: a ResNet over the grid without max pooling, which also returns its input.

    Args:
        in_channels: of the grid.
        base_channels: of the stem (stride 2) and of the first stage.
        depth, num_stages: as in :class:`ResNet`.
    """

    def __init__(self, in_channels: int, base_channels: int = 160, depth: int = 18, num_stages: int = 3) -> None:
        stages = tuple(range(num_stages))
        super().__init__(depth, out_indices=stages, num_stages=num_stages, base_channels=base_channels)
        self.conv1 = nn.Conv2d(in_channels, base_channels, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.maxpool = nn.Identity()  # type: ignore[assignment]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, in_channels, Y, X) -> the grid itself and the stages' maps at strides 2, 4, 8."""
        return [images, *super().forward(images)]
