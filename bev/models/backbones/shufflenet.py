"""ShuffleNetV2 (Ma et al., ECCV 2018, arXiv 1807.11164) with torchvision's parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.backbones.sequential import check_out_indices, conv_norm
from bev.registry import MODELS

# Channels of the stages of strides 8, 16 and 32 and of the last convolution, by width (table 5).
_WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
_BLOCKS = (4, 8, 4)
_STEM = 24


def shuffle_channels(x: Tensor, groups: int = 2) -> Tensor:
    """(B, C, H, W) -> the same channels, the groups' first ones first, then their second ones and so on."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """Half of the channels pass, half are convolved, then both are shuffled; of stride 2 both halves are convolved.

    Args:
        in_channels, out_channels, stride: shape; with stride 1 both widths are equal.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride == 2:
            depthwise = conv_norm(in_channels, in_channels, 3, 2, in_channels)
            self.branch1 = nn.Sequential(*depthwise, *conv_norm(in_channels, half, 1, activation="relu"))
        self.branch2 = nn.Sequential(
            *conv_norm(in_channels if stride == 2 else half, half, 1, activation="relu"),
            *conv_norm(half, half, 3, stride, half),
            *conv_norm(half, half, 1, activation="relu"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        kept, moved = x.chunk(2, 1) if self.stride == 1 else (self.branch1(x), x)
        return shuffle_channels(torch.cat([kept, self.branch2(moved)], 1))


@MODELS.register_module()
class ShuffleNetV2(nn.Module):
    """Stem with max pooling, three stages of :class:`ShuffleUnit`.

    Args:
        width: 0.5, 1.0, 1.5 or 2.0.
        out_indices: which of the maps of strides 4, 8, 16, 32 are returned, rising (channels of width 1: 24, 116, 232,
            464).
        num_classes: also build the last convolution and the published classifier, see :meth:`classify`.

    Raises:
        ValueError: unknown width, or maps that do not exist.
    """

    def __init__(
        self, width: float = 1.0, out_indices: Sequence[int] = (1, 2, 3), num_classes: int | None = None
    ) -> None:
        super().__init__()
        if width not in _WIDTHS:
            raise ValueError(f"ShuffleNetV2 width {width} is not one of {', '.join(map(str, _WIDTHS))}")
        self.out_indices = check_out_indices("ShuffleNetV2", out_indices, 4)
        *stages, last = _WIDTHS[width]
        self.conv1 = conv_norm(3, _STEM, 3, 2, 1, "relu")
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = _STEM
        for number, (out_channels, count) in enumerate(zip(stages, _BLOCKS), start=2):
            units = [ShuffleUnit(channels, out_channels, 2)]
            units += [ShuffleUnit(out_channels, out_channels, 1) for _ in range(count - 1)]
            self.add_module(f"stage{number}", nn.Sequential(*units))
            channels = out_channels
        self.out_channels = [(_STEM, *stages)[index] for index in self.out_indices]
        if num_classes is not None:
            self.conv5 = conv_norm(channels, last, 1, activation="relu")
            self.fc = nn.Linear(last, num_classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_indices``, finest first."""
        maps = [self.maxpool(self.conv1(images))]
        for stage in range(1, max(self.out_indices) + 1):
            maps.append(getattr(self, f"stage{stage + 1}")(maps[-1]))
        return [maps[index] for index in self.out_indices]

    def classify(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, num_classes) logits; needs ``num_classes``."""
        x = self.maxpool(self.conv1(images))
        for stage in (2, 3, 4):
            x = getattr(self, f"stage{stage}")(x)
        logits: Tensor = self.fc(self.conv5(x).mean((2, 3)))
        return logits
