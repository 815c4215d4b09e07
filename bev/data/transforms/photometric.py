"""Colours of another day, another sensor."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from bev.data.transforms.base import SampleTransform
from bev.registry import TRANSFORMS
from bev.structures import Sample

_LEVELS = np.arange(256, dtype=np.float32)


@dataclass(frozen=True)
class ColourDraw:
    """The distortion of one image; neutral where a step is left out."""

    brightness: float
    contrast: float
    contrast_first: bool
    saturation: float
    hue_deg: float
    channels: tuple[int, int, int]


@TRANSFORMS.register_module()
class PhotoMetricDistortion(SampleTransform[list[ColourDraw]]):
    """Random brightness, contrast, saturation, hue and channel order of each camera (SSD; mmdet's transform).

    Every step is taken with probability one half. On uint8 with tables: brightness and contrast are one 256-entry
    table, hue and saturation two; each step rounds and clips to 0..255 where the float form clips nothing in between.

    Args:
        brightness: largest change, grey levels.
        contrast, saturation: (low, high) factors.
        hue_deg: largest change, degrees.
        swap_channels: whether channels may change places.
    """

    def __init__(
        self,
        brightness: float = 32.0,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue_deg: float = 18.0,
        swap_channels: bool = True,
    ) -> None:
        if (
            brightness < 0
            or hue_deg < 0
            or not 0 <= contrast[0] <= contrast[1]
            or not 0 <= saturation[0] <= saturation[1]
        ):
            raise ValueError(
                f"PhotoMetricDistortion: brightness {brightness} and hue_deg {hue_deg} must not be negative, "
                f"contrast {contrast} and saturation {saturation} must be (low, high)"
            )
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.hue_deg, self.swap_channels = hue_deg, swap_channels

    def draw(self, rng: np.random.Generator, sample: Sample) -> list[ColourDraw]:
        return [self.draw_one(rng) for _ in sample.rig.names]

    def draw_one(self, rng: np.random.Generator) -> ColourDraw:
        """What chance decides for one image."""
        take = rng.random(5) < 0.5
        first = bool(rng.random() < 0.5)
        brightness, contrast = rng.uniform(-self.brightness, self.brightness), rng.uniform(*self.contrast)
        saturation, hue = rng.uniform(*self.saturation), rng.uniform(-self.hue_deg, self.hue_deg)
        order = rng.permutation(3)
        return ColourDraw(
            brightness if take[0] else 0.0,
            contrast if take[1] else 1.0,
            first,
            saturation if take[2] else 1.0,
            hue if take[3] else 0.0,
            tuple(order.tolist()) if take[4] and self.swap_channels else (0, 1, 2),
        )

    def apply(self, sample: Sample, chance: list[ColourDraw]) -> Sample:
        images = torch.empty_like(sample.images)
        for out, image, draw in zip(images.numpy(), sample.images.numpy(), chance):
            channels = cv2.split(distort(cv2.merge(list(image)), draw))
            for target, source in zip(out, draw.channels):
                target[...] = channels[source]
        return replace(sample, images=images)


def distort(image: np.ndarray, draw: ColourDraw) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> the same with brightness, contrast, saturation and hue changed (channels keep places)."""
    levels = (_LEVELS + draw.brightness).clip(0, 255)
    if draw.contrast_first:
        image = cv2.LUT(image, _table(levels * draw.contrast))
    else:
        image = cv2.LUT(image, _table(levels))
    if draw.saturation != 1 or draw.hue_deg != 0:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        tables = np.stack(
            [
                ((_LEVELS + round(draw.hue_deg * 256 / 360)) % 256).astype(np.uint8),
                _table(_LEVELS * draw.saturation),
                _LEVELS.astype(np.uint8),
            ],
            -1,
        )
        image = cv2.cvtColor(cv2.LUT(hsv, tables[None]), cv2.COLOR_HSV2RGB_FULL)
    return image if draw.contrast_first else cv2.LUT(image, _table(_LEVELS * draw.contrast))


def _table(levels: np.ndarray) -> np.ndarray:
    return levels.round().clip(0, 255).astype(np.uint8)
