"""Twice the size by reassembly whose shares are predicted from the map itself (CARAFE, ICCV 2019, arXiv 1905.02188)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bev.ops.carafe import carafe


class CARAFEUpsample(nn.Module):
    """Compress, predict a softmax over each fine pixel's neighbours, reassemble; names of mmcv's ``CARAFEPack``.

    Args:
        channels: of the map.
        scale: factor of the size.
        kernel_size: odd side of the neighbourhood.
        encoder_kernel: of the convolution that predicts the shares.
        compressed: its input channels.
    """

    def __init__(
        self, channels: int, scale: int = 2, kernel_size: int = 5, encoder_kernel: int = 3, compressed: int = 64
    ) -> None:
        super().__init__()
        self.scale, self.kernel_size = scale, kernel_size
        self.channel_compressor = nn.Conv2d(channels, compressed, 1)
        shares = (kernel_size * scale) ** 2
        self.content_encoder = nn.Conv2d(compressed, shares, encoder_kernel, padding=encoder_kernel // 2)
        nn.init.xavier_uniform_(self.channel_compressor.weight)
        nn.init.normal_(self.content_encoder.weight, std=0.001)
        for conv in (self.channel_compressor, self.content_encoder):
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H * scale, W * scale)."""
        encoded = F.pixel_shuffle(self.content_encoder(self.channel_compressor(x)), self.scale)
        return carafe(x, encoded.softmax(1), self.kernel_size, self.scale)
