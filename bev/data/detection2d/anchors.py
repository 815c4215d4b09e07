"""Anchor sizes from a data set's boxes (YOLOv2, arXiv 1612.08242, section 2: k-means with 1 - IoU)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bev.data.detection2d.dataset import read_picture
from bev.data.detection2d.records import PictureList
from bev.io import FileError


@dataclass(frozen=True, eq=False)
class AnchorFit:
    """Anchors and how well they fit.

    Attributes:
        sizes_px: (K, 2) width and height, by rising area.
        mean_iou: of each box with its best anchor, centres together.
        recall: share of the boxes whose sides are within ``ratio`` of some anchor's (what a ratio assigner can teach).
    """

    sizes_px: np.ndarray
    mean_iou: float
    recall: float


def box_sizes(
    pictures: PictureList, size_px: tuple[int, int], left_out: list[str] | None = None
) -> np.ndarray:
    """(M, 2) float64 width and height, px, of all objects after letterboxing into (H, W); crowds left out.

    Pictures are read only where their annotation gives no size.

    Args:
        pictures: the data set.
        size_px: (H, W) of the network.
        left_out: gets the reason of every picture that cannot be used; None: the first one raises.

    Raises:
        FileError: a picture or annotation cannot be used, or none can.
    """
    sizes = []
    for record in pictures.records:
        try:
            if record.problem:
                raise FileError(record.problem)
            height, width = record.size_px or read_picture(record).size_px
        except FileError as error:
            if left_out is None:
                raise
            left_out.append(str(error))
            continue
        scale = min(size_px[0] / height, size_px[1] / width)
        boxes = record.boxes_px[~record.crowd].astype(np.float64)
        sizes.append((boxes[:, 2:] - boxes[:, :2]) * scale)
    if not sizes:
        raise FileError(f"{pictures.source}: none of its {len(pictures.records)} pictures can be used")
    return np.concatenate(sizes)


def shape_iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(M, 2) and (K, 2) width and height -> (M, K) IoU of boxes that share a corner."""
    shared = np.minimum(sizes[:, None], anchors[None]).prod(-1)
    return shared / (sizes.prod(-1)[:, None] + anchors.prod(-1)[None] - shared)


def fit_anchors(
    sizes: np.ndarray, count: int, seed: int = 0, restarts: int = 5, iterations: int = 300, ratio: float = 4.0
) -> AnchorFit:
    """The best of several runs of k-means whose distance is 1 - IoU and whose centres are medians.

    Args:
        sizes: (M, 2) px, positive.
        count: anchors (K).
        seed: of the starting points.
        restarts, iterations: runs, and most steps of each.
        ratio: see :class:`AnchorFit`.

    Raises:
        ValueError: fewer different sizes than anchors.
    """
    different = np.unique(sizes, axis=0)
    if len(different) < count or (sizes <= 0).any():
        raise ValueError(f"{count} anchors need as many different, positive sizes; there are {len(different)}")
    rng = np.random.default_rng(seed)
    runs = [_lloyd(sizes, _spread(different, count, rng), iterations) for _ in range(restarts)]
    anchors = max(runs, key=lambda found: float(shape_iou(sizes, found).max(1).mean()))
    anchors = anchors[anchors.prod(1).argsort()]
    quotient = sizes[:, None] / anchors[None]
    fits = np.maximum(quotient, 1 / quotient).max(-1).min(1) < ratio
    return AnchorFit(anchors, float(shape_iou(sizes, anchors).max(1).mean()), float(fits.mean()))


def _spread(different: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Starting points far from each other (k-means++)."""
    chosen = different[rng.integers(len(different))][None]
    while len(chosen) < count:
        distance = (1 - shape_iou(different, chosen)).min(1) ** 2
        chosen = np.concatenate([chosen, different[rng.choice(len(different), p=distance / distance.sum())][None]])
    return chosen


def _lloyd(sizes: np.ndarray, anchors: np.ndarray, iterations: int) -> np.ndarray:
    nearest = None
    for _ in range(iterations):
        found = shape_iou(sizes, anchors).argmax(1)
        if nearest is not None and (found == nearest).all():
            break
        nearest = found
        # The median is steadier than the mean against a few huge boxes; a centre without boxes stays where it is.
        anchors = np.stack(
            [np.median(sizes[found == k], 0) if (found == k).any() else anchors[k] for k in range(len(anchors))]
        )
    return anchors
