"""Where a dense head predicts: anchors and points of every cell of every level."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bev.geometry.boxes2d import to_corners
from bev.registry import MODELS

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Priors:
    """P places of one image size, level by level, cells in row order, anchors of a cell together.

    Attributes:
        xyxy_px: (P, 4) anchor; of a point, the point twice.
        center_px: (P, 2) x, y that distances are measured from.
        stride_px: (P,) of the level.
        counts: places of each level.
    """

    xyxy_px: Tensor
    center_px: Tensor
    stride_px: Tensor
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return int(self.xyxy_px.shape[0])

    def __getitem__(self, index: Tensor) -> Priors:
        """Some of them, (K,) indices or (P,) mask; as one level."""
        picked = self.xyxy_px[index]
        return Priors(picked, self.center_px[index], self.stride_px[index], (len(picked),))

    def moved(self, cells: float) -> Priors:
        """Centres moved by a share of the stride to the right and down."""
        return replace(self, center_px=self.center_px + cells * self.stride_px[:, None])


class PriorGenerator(ABC):
    """Makes :class:`Priors`; a part of a head's configuration.

    Args:
        strides: of the levels, px.
    """

    def __init__(self, strides: Sequence[int]) -> None:
        self.strides = tuple(strides)

    @property
    @abstractmethod
    def per_cell(self) -> tuple[int, ...]:
        """Priors of a cell, by level."""

    @abstractmethod
    def level(self, level: int, size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
        """(H * W * A, 4) corners and (H * W * A, 2) centres of a level of ``size`` (H, W) cells, px."""

    def __call__(self, sizes: Sequence[Size], device: torch.device) -> Priors:
        """Priors of maps of ``sizes`` (H, W).

        Raises:
            ValueError: as many maps as strides are needed.
        """
        if len(sizes) != len(self.strides):
            raise ValueError(f"{len(self.strides)} strides {self.strides} but maps of {list(sizes)}")
        boxes, centers = zip(*(self.level(level, size, device) for level, size in enumerate(sizes)))
        counts = tuple(len(box) for box in boxes)
        repeated = torch.cat([centers[0].new_full((count,), stride) for stride, count in zip(self.strides, counts)])
        return Priors(torch.cat(boxes), torch.cat(centers), repeated, counts)


def cells(size: Size, stride: float, device: torch.device) -> Tensor:
    """(H * W, 2) px, x and y of the upper left corners of the cells."""
    row = torch.arange(size[0], dtype=torch.float32, device=device) * stride
    column = torch.arange(size[1], dtype=torch.float32, device=device) * stride
    return torch.stack([column.repeat(size[0]), row.repeat_interleave(size[1])], -1)


@MODELS.register_module()
class PointPriors(PriorGenerator):
    """One point a cell.

    Args:
        strides: of the levels, px.
        offset: of the point in its cell, as a share of the stride: 0.5 is the middle (FCOS), 0 the corner (RTMDet).
    """

    def __init__(self, strides: Sequence[int], offset: float = 0.5) -> None:
        super().__init__(strides)
        self.offset = offset

    @property
    def per_cell(self) -> tuple[int, ...]:
        return (1,) * len(self.strides)

    def level(self, level: int, size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
        stride = self.strides[level]
        points = cells(size, stride, device) + self.offset * stride
        return points.repeat(1, 2), points


class AnchorPriors(PriorGenerator):
    """The same boxes in every cell of a level, centred at ``offset`` of the cell.

    Args:
        strides: of the levels, px.
        base: for each level (A, 4) corners around a cell's corner, px.
    """

    def __init__(self, strides: Sequence[int], base: Sequence[Tensor]) -> None:
        super().__init__(strides)
        if len(base) != len(self.strides):
            raise ValueError(f"{len(self.strides)} strides {self.strides} but anchors of {len(base)} levels")
        self.base = list(base)

    @property
    def per_cell(self) -> tuple[int, ...]:
        return tuple(len(base) for base in self.base)

    def level(self, level: int, size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
        shift = cells(size, self.strides[level], device).repeat(1, 2)
        boxes = (shift[:, None] + self.base[level].to(device)).flatten(0, 1)
        return boxes, (boxes[:, :2] + boxes[:, 2:]) / 2


@MODELS.register_module()
class ScaledAnchors(AnchorPriors):
    """Anchors of several scales and aspect ratios (RetinaNet, ICCV 2017), centred at the cells' upper left corners.

    Args:
        strides: of the levels, px.
        scales: sides of a square anchor in strides.
        ratios: height over width.
    """

    def __init__(self, strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float] = (1.0,)) -> None:
        root = torch.tensor(ratios, dtype=torch.float32).sqrt()
        scale = torch.tensor(scales, dtype=torch.float32)
        base = []
        for stride in strides:
            height, width = stride * root[:, None] * scale, stride / root[:, None] * scale
            size = torch.stack([width.flatten(), height.flatten()], -1)
            base.append(torch.cat([-0.5 * size, 0.5 * size], -1))
        super().__init__(strides, base)


@MODELS.register_module()
class OctaveAnchors(ScaledAnchors):
    """:class:`ScaledAnchors` whose scales divide an octave evenly.

    Args:
        strides: of the levels, px.
        octave_scale: smallest scale, strides.
        scales_per_octave: number of scales.
        ratios: height over width.
    """

    def __init__(
        self,
        strides: Sequence[int],
        octave_scale: float = 4.0,
        scales_per_octave: int = 3,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        scales = [octave_scale * 2 ** (step / scales_per_octave) for step in range(scales_per_octave)]
        super().__init__(strides, scales, ratios)


@MODELS.register_module()
class SizedAnchors(AnchorPriors):
    """Anchors of given sizes, centred in the cells (YOLOv2 and later).

    Args:
        strides: of the levels, px.
        sizes_px: for each level the (width, height) of its anchors.
    """

    def __init__(self, strides: Sequence[int], sizes_px: Sequence[Sequence[Sequence[float]]]) -> None:
        base = []
        for stride, sizes in zip(strides, sizes_px):
            size = torch.tensor(sizes, dtype=torch.float32)
            base.append(to_corners(torch.cat([torch.full_like(size, stride / 2), size], -1)))
        super().__init__(strides, base)


@MODELS.register_module()
class SSDAnchors(AnchorPriors):
    """Anchors of the single shot detector (ECCV 2016, section 2.2), centred in the cells.

    A level has a square of its own size, one of the geometric mean of its own and the next level's size, and for every
    ratio r two of its own size with r and 1 / r.

    Args:
        strides: of the levels, px.
        ratios: width over height, a list a level.
        input_size_px: side of the network's image.
        size_range: smallest and largest size of levels 1 and up, as shares of the image; level 0 has the published
            size below.
        first_size: share of level 0 (published: 0.07 for images of 300 px and a range from 0.15, 0.1 from 0.2).
    """

    def __init__(
        self,
        strides: Sequence[int],
        ratios: Sequence[Sequence[float]],
        input_size_px: int = 300,
        size_range: tuple[float, float] = (0.15, 0.9),
        first_size: float = 0.07,
    ) -> None:
        sizes = self._sizes(len(strides), input_size_px, size_range, first_size)
        base = []
        for stride, level_ratios, low, high in zip(strides, ratios, sizes[:-1], sizes[1:]):
            shapes = [(1.0, 1.0), (math.sqrt(high / low),) * 2]
            for ratio in level_ratios:
                shapes += [(math.sqrt(ratio), 1 / math.sqrt(ratio)), (1 / math.sqrt(ratio), math.sqrt(ratio))]
            size = low * torch.tensor(shapes, dtype=torch.float32)
            base.append(to_corners(torch.cat([torch.full_like(size, stride / 2), size], -1)))
        super().__init__(strides, base)

    @staticmethod
    def _sizes(levels: int, image_px: int, size_range: tuple[float, float], first: float) -> list[float]:
        """px of every level and of the one after the last; percentages are whole numbers, as published."""
        low, high = (round(share * 100) for share in size_range)
        step = (high - low) // (levels - 2)
        percents = range(low, low + step * levels, step)
        return [int(image_px * percent / 100) for percent in (round(first * 100), *percents)]
