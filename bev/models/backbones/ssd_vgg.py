"""VGG-16 as SSD uses it (ECCV 2016, arXiv 1512.02325, section 3), with mmdet's parameter names."""

from __future__ import annotations

from torch import Tensor, nn

from bev.registry import MODELS

_STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


@MODELS.register_module()
class SSDVGG(nn.Module):
    """Thirteen 3x3 convolutions without norms; the two fully connected layers are convolutions, the first dilated by 6.

    Returns conv4_3 (stride 8, 512 channels) and fc7 (stride 16, 1024 channels).

    Args:
        width: factor of the channels.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, self.taps = 3, [0, 0]
        for stage, (count, base) in enumerate(_STAGES):
            for _ in range(count):
                layers += [nn.Conv2d(channels, int(base * width), 3, padding=1), nn.ReLU(inplace=True)]
                channels = int(base * width)
            if stage == 3:
                self.taps[0] = len(layers) - 1
            # The third pooling keeps the odd pixel (38 cells of 75), the last one the resolution.
            layers.append(nn.MaxPool2d(3, 1, 1) if stage == 4 else nn.MaxPool2d(2, 2, ceil_mode=True))
        wide = int(1024 * width)
        layers += [nn.Conv2d(channels, wide, 3, padding=6, dilation=6), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(wide, wide, 1), nn.ReLU(inplace=True)]
        self.taps[1] = len(layers) - 1
        self.features = nn.Sequential(*layers)
        self.out_channels = [int(512 * width), wide]
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) images without a mean of colour -> maps of strides 8 and 16."""
        maps, x = [], images
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number == self.taps[0]:
                maps.append(x)
        return [maps[0], x]
