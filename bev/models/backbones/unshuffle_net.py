"""A small residual backbone that starts with a pixel-unshuffle: fast where a 7x7 stem on full resolution is not."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.conv_module import ConvModule, ResidualBlock
from bev.registry import MODELS


@MODELS.register_module()
class UnshuffleNet(nn.Module):
    """Space-to-depth by 4, a 3x3 stem, then one stage per width; the first keeps stride 4, each further one doubles it.

    Args:
        widths: channels of the stages at strides 4, 8, 16, 32 ...
        blocks: residual blocks of each stage.
        out_indices: stages whose maps are returned.
        in_channels: of the image.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] = (1, 2, 2, 2),
        out_indices: Sequence[int] = (1, 2, 3),
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks):
            raise ValueError(f"widths {tuple(widths)} and blocks {tuple(blocks)} need one entry a stage each")
        self.out_indices = tuple(out_indices)
        self.stem = ConvModule(16 * in_channels, widths[0])
        stages = []
        for i, (width, count) in enumerate(zip(widths, blocks)):
            first = ResidualBlock(widths[max(i - 1, 0)], width, stride=1 if i == 0 else 2)
            stages.append(nn.Sequential(first, *(ResidualBlock(width, width) for _ in range(count - 1))))
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W), H and W divisible by the last stride -> maps of ``out_indices``, finest first."""
        x = self.stem(_space_to_depth(images, 4))
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outputs.append(x)
        return outputs


def _space_to_depth(images: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) -> (B, C f f, H / f, W / f) as pixel_unshuffle, by one copy that ends in channels_last layout."""
    batch, channels, height, width = images.shape
    cells = images.reshape(batch, channels, height // factor, factor, width // factor, factor)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).permute(0, 3, 1, 2)
