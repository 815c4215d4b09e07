"""A picture on its way through augmentation, and what its transforms are given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

PAD_VALUE = 114  # grey beside pictures, as published detectors have it


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels and boxes.

    Attributes:
        image: (H, W, 3) uint8, RGB. Never written into: it may be a cached one.
        boxes_px: (M, 4) float32 corners in px of ``image``.
        label: (M,) int64.
        from_file: (3, 3) float64, px of the file's picture -> px of ``image``. Of a picture made of several: of the
            first one.
        file_px: (H, W) of the file's picture.
        token: its name.
    """

    image: np.ndarray
    boxes_px: np.ndarray
    label: np.ndarray
    from_file: np.ndarray
    file_px: tuple[int, int]
    token: str

    @property
    def size_px(self) -> tuple[int, int]:
        """(H, W) now."""
        return self.image.shape[0], self.image.shape[1]

    def keep(self, chosen: np.ndarray) -> Picture:
        """The same picture with some of its boxes, (M,) mask or indices."""
        return replace(self, boxes_px=self.boxes_px[chosen], label=self.label[chosen])


@dataclass(frozen=True, eq=False)
class Chance:
    """What a transform may use besides the picture.

    Attributes:
        rng: of this draw.
        size_px: (H, W) that the network will get; equal for all pictures of a batch.
        another: a picture of the data set, drawn by ``rng``, as read.
    """

    rng: np.random.Generator
    size_px: tuple[int, int]
    another: Callable[[], Picture]


class PictureTransform(ABC):
    """Changes pixels and boxes together."""

    @abstractmethod
    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        """The transformed picture; never writes into the one that it is given."""


def moved(picture: Picture, image: np.ndarray, matrix: np.ndarray) -> Picture:
    """The picture with other pixels, to which ``matrix`` (3, 3, an axis-aligned homography) leads."""
    scale, shift = matrix.diagonal()[:2], matrix[:2, 2]
    boxes = picture.boxes_px * np.tile(scale, 2) + np.tile(shift, 2)
    # A mirror turns sides round.
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    boxes = np.concatenate([low, high], 1).astype(np.float32)
    return replace(picture, image=image, boxes_px=boxes, from_file=matrix @ picture.from_file)


def inside(picture: Picture, least_px: float = 2.0, least_share: float = 0.2) -> Picture:
    """Boxes cut at the picture's border; those of which too little is left are dropped.

    Args:
        least_px: smallest side that is kept.
        least_share: smallest share of the box's area that is kept.
    """
    height, width = picture.size_px
    boxes = picture.boxes_px.clip(0, np.array([width, height, width, height], np.float32))
    side = boxes[:, 2:] - boxes[:, :2]
    whole = (picture.boxes_px[:, 2:] - picture.boxes_px[:, :2]).prod(1)
    kept = (side >= least_px).all(1) & (side.prod(1) >= least_share * whole)
    return replace(picture, boxes_px=boxes).keep(kept)
