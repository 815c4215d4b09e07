"""One picture with boxes of its own (2D detection), and several of them stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bev.structures.boxes2d import Boxes2D


@dataclass(frozen=True, eq=False)
class ImageSample:
    """One picture at network size.

    Attributes:
        image: (3, H, W) uint8, RGB, padding included.
        network_from_picture: (3, 3) float64, px of the file's picture -> network px.
        picture_px: (H, W) of the file's picture.
        token: the data set's name of the picture.
        boxes: ground truth in network px, None where there is none.
        picture: (H, W, 3) uint8 RGB, the file's own pixels, where the data set was asked to keep them.
    """

    image: Tensor
    network_from_picture: Tensor
    picture_px: tuple[int, int]
    token: str
    boxes: Boxes2D | None = None
    picture: Tensor | None = None


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """B pictures of one network size; lists have B entries.

    Attributes:
        images: (B, 3, H, W) uint8, RGB.
        network_from_picture: (B, 3, 3) float64.
        picture_px: (H, W) of each file's picture.
        derived: what a detector has computed from this batch's ground truth.
        pictures: (H, W, 3) uint8 RGB each, the files' own pixels, always on CPU; None where they were not kept.
    """

    images: Tensor
    network_from_picture: Tensor
    picture_px: list[tuple[int, int]]
    tokens: list[str]
    boxes: list[Boxes2D] | None = None
    derived: dict[str, Any] = field(default_factory=dict)
    pictures: list[Tensor] | None = None

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def pin_memory(self) -> ImageBatch:
        """Images in page-locked memory; torch's DataLoader calls this."""
        return replace(self, images=self.images.pin_memory())

    def to(self, device: torch.device | str) -> ImageBatch:
        """The same batch on another device."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            network_from_picture=self.network_from_picture.to(device),
            boxes=None if self.boxes is None else [b.to(device) for b in self.boxes],
            derived={},
        )


def collate_images(samples: Sequence[ImageSample]) -> ImageBatch:
    """Stack pictures. Boxes are kept only where every picture has them.

    Raises:
        ValueError: pictures of different network sizes; names the tokens.
    """
    shapes = {tuple(s.image.shape) for s in samples}
    tokens = [s.token for s in samples]
    if len(shapes) != 1:
        raise ValueError(f"cannot batch pictures {tokens} of different sizes {sorted(shapes)}")
    boxes = [s.boxes for s in samples if s.boxes is not None]
    pictures = [s.picture for s in samples if s.picture is not None]
    return ImageBatch(
        images=torch.stack([s.image for s in samples]),
        network_from_picture=torch.stack([s.network_from_picture for s in samples]),
        picture_px=[s.picture_px for s in samples],
        tokens=tokens,
        boxes=boxes if len(boxes) == len(samples) else None,
        pictures=pictures if len(pictures) == len(samples) else None,
    )
