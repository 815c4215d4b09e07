"""Two-dimensional boxes of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Boxes2D:
    """M axis-aligned boxes in one image.

    Attributes:
        xyxy_px: (M, 4) left, top, right, bottom in continuous pixel coordinates.
        label: (M,) int64 class index.
        score: (M,) confidence; ones for ground truth.
    """

    xyxy_px: Tensor
    label: Tensor
    score: Tensor

    def __post_init__(self) -> None:
        m = self.xyxy_px.shape[0]
        if tuple(self.xyxy_px.shape) != (m, 4) or tuple(self.label.shape) != (m,) or tuple(self.score.shape) != (m,):
            raise ValueError(
                f"Boxes2D shapes disagree: {tuple(self.xyxy_px.shape)}, {tuple(self.label.shape)}, "
                f"{tuple(self.score.shape)}"
            )

    def __len__(self) -> int:
        return int(self.xyxy_px.shape[0])

    def __getitem__(self, index: Tensor | slice | Sequence[int]) -> Boxes2D:
        """Select boxes by mask, indices or slice."""
        picked = index if isinstance(index, (Tensor, slice)) else list(index)
        return Boxes2D(self.xyxy_px[picked], self.label[picked], self.score[picked])

    def to(self, device: torch.device | str) -> Boxes2D:
        """The same boxes on another device."""
        return Boxes2D(self.xyxy_px.to(device), self.label.to(device), self.score.to(device))
