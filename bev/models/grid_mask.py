"""GridMask: a training image with a regular pattern of blanked squares (Chen et al., arXiv 2001.04086)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bev.registry import MODELS


@MODELS.register_module()
class GridMask(nn.Module):
    """Blanks squares of random pitch and phase, the same for every image of a call, in training mode only.

    Args:
        probability: that a call masks at all.
        ratio: side of a blanked square to the pitch of the grid is ``1 - ratio``.
    """

    def __init__(self, probability: float = 0.7, ratio: float = 0.5) -> None:
        super().__init__()
        self.probability, self.ratio = probability, ratio

    def forward(self, images: Tensor) -> Tensor:
        """(..., H, W) -> the same, blanked to 0."""
        if not self.training or float(torch.rand(())) > self.probability:
            return images
        return images * self.draw(*images.shape[-2:]).to(images)

    def draw(self, height: int, width: int) -> Tensor:
        """(H, W) bool mask, True where the image is kept; the pitch is drawn from [2, H)."""
        pitch = _randint(2, max(height, 3))
        stripe = min(max(int(pitch * self.ratio + 0.5), 1), pitch - 1)
        rows, columns = ((torch.arange(size) - _randint(0, pitch)) % pitch < stripe for size in (height, width))
        return rows[:, None] | columns


def _randint(low: int, high: int) -> int:
    return int(torch.randint(low, high, ()))
