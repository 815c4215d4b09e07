"""Transforms of one picture's pixels: colours and erased parts."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from bev.data.detection2d.picture import PAD_VALUE, Chance, Picture, PictureTransform
from bev.data.transforms.photometric import PhotoMetricDistortion, distort
from bev.registry import TRANSFORMS


@TRANSFORMS.register_module()
class HsvJitter(PictureTransform):
    """Hue shifted, saturation and value scaled, by tables (YOLOv3 to YOLOX).

    Args:
        hue_deg: largest shift, degrees.
        saturation, value: largest relative change.
        probability: of doing so.
    """

    def __init__(
        self, hue_deg: float = 5.0, saturation: float = 0.7, value: float = 0.4, probability: float = 1.0
    ) -> None:
        if min(hue_deg, saturation, value) < 0 or not 0 <= probability <= 1:
            raise ValueError(f"HsvJitter: ranges {hue_deg}, {saturation}, {value} must not be negative")
        self.hue_deg, self.saturation, self.value, self.probability = hue_deg, saturation, value, probability

    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        if chance.rng.random() >= self.probability:
            return picture
        hue, saturation, value = chance.rng.uniform(-1, 1, 3) * (self.hue_deg, self.saturation, self.value)
        levels = np.arange(256, dtype=np.float32)
        tables = [
            (levels + round(hue * 256 / 360)) % 256,
            (levels * (1 + saturation)).clip(0, 255),
            (levels * (1 + value)).clip(0, 255),
        ]
        hsv = cv2.cvtColor(picture.image, cv2.COLOR_RGB2HSV_FULL)
        hsv = cv2.LUT(hsv, np.stack(tables, -1).astype(np.uint8)[None])
        return replace(picture, image=cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL))


@TRANSFORMS.register_module()
class RandomDistort(PictureTransform):
    """Brightness, contrast, saturation, hue and channel order, each with probability one half (SSD).

    The arguments are those of :class:`bev.data.transforms.PhotoMetricDistortion`, whose draws and tables it shares.
    """

    def __init__(
        self,
        brightness: float = 32.0,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue_deg: float = 18.0,
        swap_channels: bool = True,
    ) -> None:
        self.drawer = PhotoMetricDistortion(brightness, contrast, saturation, hue_deg, swap_channels)

    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        draw = self.drawer.draw_one(chance.rng)
        image = distort(picture.image, draw)
        image = image if draw.channels == (0, 1, 2) else np.ascontiguousarray(image[..., list(draw.channels)])
        return replace(picture, image=image)


@TRANSFORMS.register_module()
class RandomErasing(PictureTransform):
    """Rectangles filled with grey or noise (Cutout, arXiv 1708.04552; Random Erasing, arXiv 1708.04896).

    Boxes of which too much is hidden are dropped: nobody could find them.

    Args:
        probability: of erasing.
        count: most rectangles.
        area: range of a rectangle's area, in shares of the picture.
        ratio: range of height over width.
        fill: a grey level, or None for noise.
        most_hidden: share of a box that may be hidden.
    """

    def __init__(
        self,
        probability: float = 0.5,
        count: int = 3,
        area: tuple[float, float] = (0.005, 0.05),
        ratio: tuple[float, float] = (0.3, 3.3),
        fill: int | None = PAD_VALUE,
        most_hidden: float = 0.7,
    ) -> None:
        if not 0 <= probability <= 1 or count < 1 or not 0 < area[0] <= area[1] < 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"RandomErasing: probability {probability}, count {count}, area {area}, ratio {ratio}")
        self.probability, self.count, self.area, self.ratio = probability, count, area, ratio
        self.fill, self.most_hidden = fill, most_hidden

    def __call__(self, picture: Picture, chance: Chance) -> Picture:
        if chance.rng.random() >= self.probability:
            return picture
        image, rng, (height, width) = picture.image.copy(), chance.rng, picture.size_px
        erased = np.zeros((height, width), np.uint8)
        for _ in range(int(rng.integers(1, self.count + 1))):
            area = rng.uniform(*self.area) * height * width
            aspect = float(np.exp(rng.uniform(*np.log(self.ratio))))
            h = min(height, max(1, round((area * aspect) ** 0.5)))
            w = min(width, max(1, round((area / aspect) ** 0.5)))
            top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            part = image[top : top + h, left : left + w]
            part[...] = rng.integers(0, 256, part.shape, np.uint8) if self.fill is None else self.fill
            erased[top : top + h, left : left + w] = 1
        seen = np.array([hidden_share(erased, box) <= self.most_hidden for box in picture.boxes_px], bool)
        return replace(picture, image=image).keep(seen)


def hidden_share(erased: np.ndarray, box_px: np.ndarray) -> float:
    """Share of a box's pixels that are marked in (H, W) ``erased``."""
    left, top, right, bottom = box_px.round().astype(int).clip(0).tolist()
    part = erased[top : max(bottom, top + 1), left : max(right, left + 1)]
    return float(part.mean()) if part.size else 0.0
