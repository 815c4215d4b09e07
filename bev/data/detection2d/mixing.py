"""Transforms that put several pictures into one: mosaic, mix-up, copy-paste."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np

from bev.data.detection2d.letterbox import letterbox
from bev.data.detection2d.picture import PAD_VALUE, Chance, Picture, PictureTransform, inside, moved
from bev.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Mosaic(PictureTransform):
    """Four pictures around a random point of a canvas of twice the network's size (YOLOv4, arXiv 2004.10934).

    The result has the canvas's size: :class:`RandomAffine` after it cuts the network's window out of its middle.

    Args:
        probability: of making one.
        center: range of the point where the four meet, in shares of the canvas.
        pad_value: grey where no picture lies.
    """

    def __init__(
        self, probability: float = 1.0, center: tuple[float, float] = (0.25, 0.75), pad_value: int = PAD_VALUE
    ) -> None:
        _check_probability("Mosaic", probability)
        if not 0 < center[0] <= center[1] < 1:
            raise ValueError(f"Mosaic center {center} must be a range within 0 and 1")
        self.probability, self.center, self.pad_value = probability, center, pad_value

    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        if chance.rng.random() >= self.probability:
            return picture
        height, width = 2 * chance.size_px[0], 2 * chance.size_px[1]
        y, x = (round(chance.rng.uniform(*self.center) * side) for side in (height, width))
        canvas = np.full((height, width, 3), self.pad_value, np.uint8)
        placed = []
        for corner, source in enumerate([picture, *(chance.another() for _ in range(3))]):
            scaled = fitted(source, chance.size_px)
            h, w = scaled.size_px
            left = x - w if corner % 2 == 0 else x
            top = y - h if corner < 2 else y
            placed.append(paste(canvas, scaled, left, top))
        return inside(joined(placed, canvas))


@TRANSFORMS.register_module()
class MixUp(PictureTransform):
    """A second picture, scaled and perhaps mirrored, laid over the first (arXiv 1710.09412 as YOLOX has it).

    Both keep their boxes.

    Args:
        probability: of mixing.
        scale: range of the second picture's scale, against fitting the first.
        beta: the first picture's share is drawn from Beta(beta, beta); None for one half.
    """

    def __init__(
        self, probability: float = 1.0, scale: tuple[float, float] = (0.5, 1.5), beta: float | None = None
    ) -> None:
        _check_probability("MixUp", probability)
        if not 0 < scale[0] <= scale[1] or (beta is not None and beta <= 0):
            raise ValueError(f"MixUp: scale {scale} and beta {beta} must be positive")
        self.probability, self.scale, self.beta = probability, scale, beta

    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        if chance.rng.random() >= self.probability:
            return picture
        height, width = picture.size_px
        factor = chance.rng.uniform(*self.scale)
        second = fitted(chance.another(), (max(1, round(height * factor)), max(1, round(width * factor))))
        if chance.rng.random() < 0.5:
            second = mirrored(second)
        canvas = np.full_like(picture.image, PAD_VALUE)
        top, left = (
            int(chance.rng.integers(min(0, a - b), max(0, a - b) + 1))
            for a, b in ((height, second.size_px[0]), (width, second.size_px[1]))
        )
        over = inside(replace(paste(canvas, second, left, top), image=canvas))
        share = 0.5 if self.beta is None else float(chance.rng.beta(self.beta, self.beta))
        mixed = cv2.addWeighted(picture.image, share, canvas, 1 - share, 0)
        return joined([picture, over], mixed)


@TRANSFORMS.register_module()
class CopyPaste(PictureTransform):
    """Objects of another picture, cut out by their boxes, at places where they hide little.

    The idea of Simple Copy-Paste (arXiv 2012.07177) with boxes for masks; ``poisson`` blends the gradients (Perez et
    al., SIGGRAPH 2003), so that the patch's border does not show.

    Args:
        probability: of pasting.
        count: most objects that are pasted.
        blend: ``paste`` or ``poisson``.
        largest_overlap: share of any box of the picture that a patch may hide, and of a patch that a box may.
        tries: places that are tried for an object.
    """

    def __init__(
        self,
        probability: float = 0.5,
        count: int = 3,
        blend: Literal["paste", "poisson"] = "paste",
        largest_overlap: float = 0.3,
        tries: int = 10,
    ) -> None:
        _check_probability("CopyPaste", probability)
        if blend not in ("paste", "poisson") or count < 1 or tries < 1:
            raise ValueError(f"CopyPaste: blend {blend!r} must be paste or poisson, count {count}, tries {tries} >= 1")
        self.probability, self.count, self.blend = probability, count, blend
        self.largest_overlap, self.tries = largest_overlap, tries

    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        if chance.rng.random() >= self.probability:
            return picture
        source = fitted(chance.another(), picture.size_px)
        order = chance.rng.permutation(len(source.label))[: int(chance.rng.integers(1, self.count + 1))]
        image, boxes, labels = picture.image.copy(), picture.boxes_px, picture.label
        for index in order.tolist():
            left, top, right, bottom = source.boxes_px[index].round().astype(int).clip(0).tolist()
            patch = source.image[top:bottom, left:right]
            place = self._place((patch.shape[0], patch.shape[1]), boxes, picture.size_px, chance.rng)
            if place is not None:
                image = self._blend(image, patch, place)
                boxes = np.concatenate([boxes, np.array([place], np.float32)])
                labels = np.append(labels, source.label[index])
        return replace(picture, image=image, boxes_px=boxes, label=labels)

    def _place(
        self, patch_px: tuple[int, int], boxes: np.ndarray, size_px: tuple[int, int], rng: np.random.Generator
    ) -> tuple[int, int, int, int] | None:
        h, w = patch_px
        if min(h, w) < 4 or h + 2 > size_px[0] or w + 2 > size_px[1]:
            return None
        area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-6)
        for _ in range(self.tries):
            top, left = int(rng.integers(1, size_px[0] - h)), int(rng.integers(1, size_px[1] - w))
            place = (left, top, left + w, top + h)
            low, high = np.maximum(boxes[:, :2], place[:2]), np.minimum(boxes[:, 2:], place[2:])
            hidden = (high - low).clip(0).prod(1)
            if (hidden <= self.largest_overlap * np.minimum(area, h * w)).all():
                return place
        return None

    def _blend(self, image: np.ndarray, patch: np.ndarray, place: tuple[int, int, int, int]) -> np.ndarray:
        left, top, right, bottom = place
        if self.blend == "paste":
            image[top:bottom, left:right] = patch
            return image
        # seamlessClone centres the mask's bounding box here; its outermost pixels belong to the picture.
        center = (left + right) // 2, (top + bottom) // 2
        mask = np.full(patch.shape[:2], 255, np.uint8)
        return cv2.seamlessClone(np.ascontiguousarray(patch), image, mask, center, cv2.NORMAL_CLONE)


def fitted(picture: Picture, size_px: tuple[int, int]) -> Picture:
    """The picture scaled to fit (H, W), without padding."""
    height, width = picture.size_px
    scale = min(size_px[0] / height, size_px[1] / width)
    inner = max(1, int(height * scale)), max(1, int(width * scale))
    image, matrix = letterbox(picture.image, inner)
    return moved(picture, image, matrix)


def mirrored(picture: Picture) -> Picture:
    """Left and right changed."""
    matrix = np.array([[-1.0, 0, picture.size_px[1]], [0, 1, 0], [0, 0, 1]])
    return moved(picture, np.ascontiguousarray(picture.image[:, ::-1]), matrix)


def paste(canvas: np.ndarray, picture: Picture, left: int, top: int) -> Picture:
    """Write the part of a picture that lies on the canvas; the picture in the canvas's px, its image unchanged."""
    (h, w), (height, width) = picture.size_px, canvas.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
    if x1 > x0 and y1 > y0:
        canvas[y0:y1, x0:x1] = picture.image[y0 - top : y1 - top, x0 - left : x1 - left]
    return moved(picture, picture.image, np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]]))


def joined(pictures: list[Picture], image: np.ndarray) -> Picture:
    """All boxes of several pictures on one image; the rest is the first's."""
    return replace(
        pictures[0],
        image=image,
        boxes_px=np.concatenate([p.boxes_px for p in pictures]),
        label=np.concatenate([p.label for p in pictures]),
    )


def _check_probability(name: str, probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"{name} probability {probability} is not between 0 and 1")
