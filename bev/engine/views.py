"""A 2D detector on several views of one picture: mirrored, at other scales, tile by tile; merged into one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from bev.data.detection2d.letterbox import Place, letterbox
from bev.data.detection2d.picture import PAD_VALUE
from bev.ops.box_fusion import weighted_box_fusion
from bev.ops.box_merging import merge_boxes
from bev.ops.nms import nms
from bev.registry import ConfigError, check_arguments
from bev.structures import Boxes2D, ImageBatch

Predict = Callable[[ImageBatch], list[Boxes2D]]
Merge = Literal["nms", "fusion", "hull"]
_NEAR_BORDER = 0.01  # of a view's side: a detector ends a cut object's box about there
_THRESHOLDS: dict[str, float] = {"nms": 0.65, "fusion": 0.55, "hull": 0.5}


@dataclass(frozen=True)
class NetworkInput:
    """How pictures come to the network's size.

    Attributes:
        size_px: (H, W) of the network's image.
        place, pad_value: see :func:`bev.data.detection2d.letterbox.letterbox`.
    """

    size_px: tuple[int, int]
    place: Place = "corner"
    pad_value: int = PAD_VALUE


@dataclass(frozen=True)
class View:
    """What the network sees once.

    Attributes:
        region_px: left, top, right, bottom of the part of the picture, whole px.
        size_px: (H, W) of the network's image.
        mirrored: left and right changed.
    """

    region_px: tuple[int, int, int, int]
    size_px: tuple[int, int]
    mirrored: bool


@dataclass(frozen=True)
class PictureViews:
    """Which views are taken of a picture, and how their boxes become one list.

    Attributes:
        flip: every view mirrored too.
        scales: of the network's size; each gives its views.
        tile_px: side, or (H, W), of overlapping tiles in px of the picture, for small objects; None: no tiles. A tile
            is letterboxed to the network's size as a picture is, so objects keep their px where the two are equal.
        overlap: share of a tile that its neighbour sees too. Objects smaller than that are whole in some tile.
        whole: the whole picture beside its tiles, for large objects.
        merge: ``nms`` keeps the best of the boxes that overlap, ``fusion`` takes their weighted mean (each view's vote
            counts: what few views find loses score), ``hull`` joins what a tile's border cut by its share of the
            smaller box. None: ``hull`` with tiles, else ``fusion``.
        threshold: of the merging; None: nms .65, fusion .55, hull .5.
        max_boxes: kept of a picture.
        batch_size: views that the network sees at a time.
        multiple_px: the network's sides are rounded to multiples of it.

    Raises:
        ConfigError: values that make no sense; names them.
    """

    flip: bool = False
    scales: Sequence[float] = (1.0,)
    tile_px: int | Sequence[int] | None = None
    overlap: float = 0.2
    whole: bool = True
    merge: Merge | None = None
    threshold: float | None = None
    max_boxes: int = 300
    batch_size: int = 4
    multiple_px: int = 32

    def __post_init__(self) -> None:
        if not self.scales or not all(isinstance(s, (int, float)) and 0.05 <= s <= 20 for s in self.scales):
            raise ConfigError(f"views.scales {self.scales!r} must be numbers from 0.05 to 20")
        if self.tile_px is not None and (len(self._tile) != 2 or min(self._tile) < 16):
            raise ConfigError(f"views.tile_px {self.tile_px!r} must be a side or (H, W) of at least 16 px")
        if self.tile_px is None and not self.whole:
            raise ConfigError("views: whole=False without tile_px leaves nothing to look at")
        if not 0 <= self.overlap < 0.95:
            raise ConfigError(f"views.overlap {self.overlap!r} must be a share from 0 to 0.95")
        if self.merge is not None and self.merge not in get_args(Merge):
            raise ConfigError(f"views.merge {self.merge!r} is none of {', '.join(get_args(Merge))}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError(f"views.threshold {self.threshold!r} must be from 0 to 1")
        if min(self.max_boxes, self.batch_size, self.multiple_px) < 1:
            raise ConfigError("views: max_boxes, batch_size and multiple_px must be at least 1")

    @property
    def _tile(self) -> tuple[int, ...]:
        given: Any = self.tile_px
        return (given, given) if isinstance(given, int) else tuple(given or ())

    def of(self, picture_px: tuple[int, int], size_px: tuple[int, int]) -> list[View]:
        """The views of a picture of (H, W), the whole ones first; ``size_px`` (H, W) of the network at scale 1."""
        height, width = picture_px
        regions = [(0, 0, width, height)] if self.whole else []
        if self.tile_px is not None:
            tops = tile_starts(height, self._tile[0], self.overlap)
            lefts = tile_starts(width, self._tile[1], self.overlap)
            regions += [
                (left, top, min(left + self._tile[1], width), min(top + self._tile[0], height))
                for top, left in product(tops, lefts)
            ]
        sizes = [(self._scaled(size_px[0], scale), self._scaled(size_px[1], scale)) for scale in self.scales]
        mirrors = (False, True) if self.flip else (False,)
        # A picture no larger than a tile is its own only tile: one view of it is enough.
        return list(dict.fromkeys(View(*choice) for choice in product(regions, sizes, mirrors)))

    def _scaled(self, side_px: int, scale: float) -> int:
        return max(1, round(side_px * scale / self.multiple_px)) * self.multiple_px if scale != 1 else side_px

    def detect(
        self, predict: Predict, picture: np.ndarray, prepared: NetworkInput, token: str, device: torch.device | str
    ) -> Boxes2D:
        """Boxes of one picture from all its views.

        Args:
            predict: a detector's, in evaluation mode.
            picture: (H, W, 3) uint8 RGB.
            prepared: the network's input at scale 1.
            token: name of the picture, for messages.
            device: of the detector.

        Returns:
            px of the picture, by falling score, on CPU.
        """
        views = self.of((picture.shape[0], picture.shape[1]), prepared.size_px)
        found: list[Boxes2D] = []
        cut: list[Tensor] = []
        for some in _batches(views, self.batch_size):
            batch = _batch(picture, some, prepared, token).to(device)
            moved = [_in_picture(boxes.to("cpu"), view) for boxes, view in zip(predict(batch), some)]
            cut += [_cut(boxes.xyxy_px, view, picture.shape[1::-1]) for boxes, view in zip(moved, some)]
            found += moved
        return self.merged(found, cut)

    def merged(self, found: Sequence[Boxes2D], cut: Sequence[Tensor] | None = None) -> Boxes2D:
        """Boxes of all views, px of the picture, as one list by falling score.

        Args:
            found: of each view.
            cut: for each view (M,) bool, which of its boxes the view's border may have cut; None: all of them.
        """
        boxes = torch.cat([f.xyxy_px for f in found])
        label, score = torch.cat([f.label for f in found]), torch.cat([f.score for f in found])
        how = self.merge or ("hull" if self.tile_px is not None else "fusion")
        limit = _THRESHOLDS[how] if self.threshold is None else self.threshold
        if how == "nms":
            return Boxes2D(boxes, label, score)[nms(boxes, score, limit, label, max_num=self.max_boxes)]
        if how == "hull":
            pieces = None if cut is None else torch.cat(list(cut))
            joined, best, cluster = merge_boxes(boxes, score, limit, label, pieces)
        else:
            # Every place is seen at every scale, mirrored and not; tiles come on top of that.
            votes = len(set(self.scales)) * (1 + self.flip)
            joined, best, cluster = weighted_box_fusion(boxes, score, limit, label, votes)
        labels = torch.zeros(len(joined), dtype=label.dtype).scatter_(0, cluster, label)
        return Boxes2D(joined, labels, best)[: self.max_boxes]


def build_views(node: Mapping[str, Any], path: str) -> PictureViews:
    """From a configuration's arguments; raises ConfigError for one that is unknown or makes no sense."""
    check_arguments(PictureViews, node, path)
    return PictureViews(**node)


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First pixels of the tiles along a side, the last one flush with its end; one tile where the side is no longer."""
    if length <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    return [*range(0, length - tile, step), length - tile]


def _batches(views: Sequence[View], batch_size: int) -> Iterator[list[View]]:
    """Views of one network size together, at most so many."""
    for size in dict.fromkeys(view.size_px for view in views):
        same = [view for view in views if view.size_px == size]
        for first in range(0, len(same), batch_size):
            yield same[first : first + batch_size]


def _batch(picture: np.ndarray, views: Sequence[View], prepared: NetworkInput, token: str) -> ImageBatch:
    images, matrices, sizes = [], [], []
    for view in views:
        left, top, right, bottom = view.region_px
        part = picture[top:bottom, left:right]
        part = np.ascontiguousarray(part[:, ::-1] if view.mirrored else part)
        image, matrix = letterbox(part, view.size_px, prepared.pad_value, prepared.place)
        images.append(torch.from_numpy(image).permute(2, 0, 1))
        matrices.append(torch.from_numpy(matrix))
        sizes.append((bottom - top, right - left))
    return ImageBatch(torch.stack(images), torch.stack(matrices), sizes, [token] * len(views))


def _cut(xyxy_px: Tensor, view: View, picture_px: Sequence[int]) -> Tensor:
    """(M, 4) px of the picture -> (M,) bool: boxes that reach a border of their view that is none of the picture
    (W, H)."""
    low, high = torch.tensor(view.region_px[:2]), torch.tensor(view.region_px[2:])
    near = ((high - low) * _NEAR_BORDER).clamp(min=1)
    begins = (xyxy_px[:, :2] <= low + near) & (low > 0)
    ends = (xyxy_px[:, 2:] >= high - near) & (high < torch.tensor(list(picture_px)))
    return (begins | ends).any(-1)


def _in_picture(boxes: Boxes2D, view: View) -> Boxes2D:
    """From px of a view's own part to px of the picture."""
    corners: Tensor = boxes.xyxy_px
    left, top, right, _ = view.region_px
    if view.mirrored:
        width = right - left
        corners = torch.stack([width - corners[:, 2], corners[:, 1], width - corners[:, 0], corners[:, 3]], 1)
    return Boxes2D(corners + corners.new_tensor([left, top, left, top]), boxes.label, boxes.score)
