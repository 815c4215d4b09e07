"""Image normalisation on the device: images travel as uint8 until here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from bev.registry import MODELS


@MODELS.register_module()
class ImageNormalizer(nn.Module):
    """(..., 3, H, W) RGB 0..255 -> ``(image - mean) / std`` in the channel order that the weights expect.

    Args:
        mean, std: per channel on the 0..255 scale, in the order of ``channel_order``.
        channel_order: ``"bgr"`` for caffe-style published weights (DETR3D, FCOS3D).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        channel_order: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        super().__init__()
        self.flip_channels = channel_order == "bgr"
        # As given: the buffers below have no values in a model that is built on the meta device.
        self.mean_values, self.std_values = tuple(map(float, mean)), tuple(map(float, std))
        # Not in checkpoints: published weights carry no such keys.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Same shape; float32, or autocast's type within it."""
        if self.flip_channels:
            images = images.flip(-3)
        # In place on the copy: three passes over the pixels less.
        normalised = images.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)
        device = images.device.type
        # The first convolution would round them anyway; whatever moves pixels before it then moves half the bytes.
        return normalised.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else normalised
