"""Colours of every picture: classes, heights, and the few tones of the page.

The ten class colours keep a distance of at least 0.08 in OKLab (https://bottosson.github.io/posts/oklab/) from each
other for normal sight and for the simulated protanope, deuteranope and tritanope (Machado et al. 2009, severity 1), and
are bright enough to stand out on photographs and on the dark ground of the bird's-eye view.
"""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Color(NamedTuple):
    """sRGB, 0..255."""

    red: int
    green: int
    blue: int

    def mixed(self, other: Color, amount: float) -> Color:
        """This colour with ``amount`` (0..1) of another one."""
        return Color(*(round(a + (b - a) * amount) for a, b in zip(self, other)))

    @property
    def luma(self) -> float:
        """Perceived brightness 0..1 (Rec. 601)."""
        return (0.299 * self.red + 0.587 * self.green + 0.114 * self.blue) / 255


PAGE = Color(16, 19, 26)
GROUND = Color(21, 25, 34)
GRID = Color(58, 67, 84)
INK = Color(236, 240, 246)
MUTED_INK = Color(150, 160, 176)
SHADOW = Color(8, 10, 14)
GROUND_TRUTH = Color(255, 255, 255)
EGO = Color(226, 231, 239)

CLASS_COLORS = {
    "car": Color(255, 158, 0),
    "truck": Color(255, 32, 32),
    "construction_vehicle": Color(212, 21, 191),
    "bus": Color(191, 255, 42),
    "trailer": Color(191, 128, 149),
    "barrier": Color(170, 191, 149),
    "motorcycle": Color(106, 106, 255),
    "bicycle": Color(64, 255, 170),
    "pedestrian": Color(58, 165, 255),
    "traffic_cone": Color(234, 191, 255),
}

# Dark blue to pale yellow, darker than the class colours so that boxes stay in front of the points.
_POINT_STOPS: Array = np.array(
    [[58, 64, 122], [54, 92, 141], [45, 125, 139], [66, 157, 124], [148, 184, 96], [222, 206, 112]], np.float64
)
HEIGHT_RANGE_M = (-0.5, 4.0)
# From the ground's own dark over violet and orange to pale yellow: brightness rises all the way.
_HEAT_STOPS: Array = np.array(
    [[24, 26, 44], [66, 32, 104], [128, 45, 118], [192, 66, 92], [236, 120, 52], [252, 226, 150]], np.float64
)
# Lines of plots, on PAGE, told apart as the classes are; for what is no class.
SERIES = (
    Color(96, 192, 224),
    Color(224, 160, 0),
    Color(224, 224, 224),
    Color(128, 96, 224),
    Color(224, 96, 128),
    Color(160, 128, 0),
    Color(224, 192, 128),
    Color(64, 160, 192),
)
MAP = Color(38, 46, 60)
MARK = Color(255, 255, 90)


def class_color(name: str, index: int = 0) -> Color:
    """Colour of a class; names outside the nuScenes detection classes get a hue by ``index``, golden-angle spaced."""
    if name in CLASS_COLORS:
        return CLASS_COLORS[name]
    return Color(*(round(255 * c) for c in colorsys.hsv_to_rgb((0.09 + 0.618034 * index) % 1.0, 0.65, 0.95)))


def _between(position: Array, stops: Array) -> NDArray[np.uint8]:
    place = np.nan_to_num(np.asarray(position, np.float64)).clip(0, 1) * (len(stops) - 1)
    channels = [np.interp(place, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def ramp_colors(position: Array) -> NDArray[np.uint8]:
    """(...) places 0..1 on the ramp of the points -> (..., 3) sRGB; clamped, NaN as 0."""
    return _between(position, _POINT_STOPS)


def heat_colors(position: Array) -> NDArray[np.uint8]:
    """(...) values 0..1 of a heat map -> (..., 3) sRGB; clamped, NaN as 0. Read by brightness alone, too."""
    return _between(position, _HEAT_STOPS)


def height_colors(height_m: Array) -> NDArray[np.uint8]:
    """(P,) heights above the ground, m -> (P, 3) sRGB; clamped to HEIGHT_RANGE_M, NaN as the lowest."""
    low, high = HEIGHT_RANGE_M
    return ramp_colors((np.asarray(height_m) - low) / (high - low))


def ink_on(color: Color) -> Color:
    """Black or white, whichever is read better on ``color``."""
    return SHADOW if color.luma > 0.45 else INK
