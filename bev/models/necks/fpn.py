"""Feature pyramid network with the parameter names and extra-level modes of mmdet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.conv_module import ConvModule
from bev.models.necks.carafe_upsample import CARAFEUpsample
from bev.registry import MODELS

ExtraLevels = Literal["max_pool", "on_input", "on_lateral", "on_output"]


def pyramid_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> ConvModule:
    """A plain convolution, initialised as pyramids are (Xavier)."""
    module = ConvModule(in_channels, out_channels, kernel_size, stride, norm=False, activation=False)
    nn.init.xavier_uniform_(module.conv.weight)
    return module


@MODELS.register_module()
class FPN(nn.Module):
    """Top-down pyramid (Lin et al., CVPR 2017).

    Args:
        in_channels: of every map of the backbone.
        out_channels: of every level.
        num_outs: number of levels; those beyond the backbone's maps are made as ``extra_levels`` says.
        start_level, end_level: first and last (inclusive; -1 for the last) map that is used.
        extra_levels: 1x1 max pooling with stride 2, or stride-2 3x3 convolutions that begin at the last input map, the
            last lateral map or the last output.
        relu_before_extra_convs: ReLU before every extra convolution but the first, as in mmdet.
        upsample: how a level is enlarged to the next finer one: its nearest pixels, or ``carafe``, a mixture of its
            neighbourhood that is predicted for each pixel (arXiv 1905.02188).

    Raises:
        ValueError: levels that do not exist, fewer outputs than maps, or another way to enlarge.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        extra_levels: ExtraLevels = "max_pool",
        relu_before_extra_convs: bool = False,
        upsample: Literal["nearest", "carafe"] = "nearest",
    ) -> None:
        super().__init__()
        last = len(in_channels) - 1 if end_level == -1 else end_level
        if not 0 <= start_level <= last < len(in_channels) or num_outs < last - start_level + 1:
            raise ValueError(f"FPN cannot make {num_outs} levels of maps {start_level} to {last} of {len(in_channels)}")
        if last + 1 < len(in_channels) and num_outs != last - start_level + 1:
            raise ValueError("FPN makes no extra levels where end_level drops maps of the backbone")
        if upsample not in ("nearest", "carafe"):
            raise ValueError(f"FPN upsample {upsample!r} is neither 'nearest' nor 'carafe'")
        self.start_level, self.end_level, self.num_outs = start_level, last, num_outs
        self.extra_levels, self.relu_before_extra_convs = extra_levels, relu_before_extra_convs
        used = in_channels[start_level : last + 1]
        self.lateral_convs = nn.ModuleList(pyramid_conv(channels, out_channels, 1) for channels in used)
        self.fpn_convs = nn.ModuleList(pyramid_conv(out_channels, out_channels, 3) for _ in used)
        self.upsamples: nn.ModuleList | None = None
        if upsample == "carafe":
            self.upsamples = nn.ModuleList(CARAFEUpsample(out_channels) for _ in used[1:])
        for extra in range(num_outs - len(used) if extra_levels != "max_pool" else 0):
            first = in_channels[last] if extra == 0 and extra_levels == "on_input" else out_channels
            self.fpn_convs.append(pyramid_conv(first, out_channels, 3, stride=2))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the backbone (B, C_l, H_l, W_l), finest first -> ``num_outs`` levels (B, C, H_l, W_l)."""
        maps = maps[self.start_level : self.end_level + 1]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps)]
        for level in range(len(laterals) - 1, 0, -1):
            laterals[level - 1] = laterals[level - 1] + self._enlarged(laterals, level)
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, laterals)]
        source = {"on_input": maps[-1], "on_lateral": laterals[-1]}.get(self.extra_levels, outputs[-1])
        return self._extend(outputs, source)

    def _enlarged(self, laterals: list[Tensor], level: int) -> Tensor:
        """A level at the size of the next finer one."""
        height, width = laterals[level - 1].shape[-2:]
        if self.upsamples is None:
            return F.interpolate(laterals[level], size=(height, width), mode="nearest")
        result: Tensor = self.upsamples[level - 1](laterals[level])[..., :height, :width]
        return result

    def _extend(self, outputs: list[Tensor], source: Tensor) -> list[Tensor]:
        for level in range(len(outputs), self.num_outs):
            if self.extra_levels == "max_pool":
                outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
                continue
            if self.relu_before_extra_convs and level > len(self.lateral_convs):
                source = F.relu(source)
            source = self.fpn_convs[level](source)
            outputs.append(source)
        return outputs
