"""What is drawn of a frame besides its pictures, points and boxes: tracks, map, heat maps, what a query looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bev.viz.scene import Array


@dataclass(frozen=True, eq=False)
class Track:
    """The way of one object up to the present.

    Attributes:
        name: its identity in the submission.
        label: class number.
        path_m: (T, 3) places in the present reference frame, oldest first; the last one is the present.
    """

    name: str
    label: int
    path_m: Array


@dataclass(frozen=True, eq=False)
class Raster:
    """A picture that lies on the ground of the reference frame.

    Attributes:
        color: (Y, X, 3) uint8 sRGB; rows go along +y, columns along +x.
        shown: (Y, X) bool; cells that are not shown let the ground through.
        x_m, y_m: (low, high) of the whole picture.
        name: in the legend; empty for none.
        limits: words for the darkest and brightest colour of a heat map; empty for other pictures.
    """

    color: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    x_m: tuple[float, float]
    y_m: tuple[float, float]
    name: str = ""
    limits: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class CameraHeat:
    """A heat map over every camera image.

    Attributes:
        value: (N, h, w) 0..1, of any size; stretched over the network image.
        name, limits: in the legend, as in :class:`Raster`.
    """

    value: NDArray[np.float32]
    name: str
    limits: tuple[str, str]


@dataclass(frozen=True, eq=False)
class Marks:
    """Where a query looks.

    Attributes:
        name: in the legend.
        xyz_m: (K, 3) reference points in the reference frame.
        pixels_px: for each of the N cameras, (S, 2) places in the network image.
        weight: for each camera, (S,) 0..1: how much each place counts; the strongest of all cameras is 1.
    """

    name: str
    xyz_m: Array
    pixels_px: tuple[Array, ...]
    weight: tuple[Array, ...]


@dataclass(frozen=True)
class Overlay:
    """All of that for one frame; None or empty for what there is not.

    Attributes:
        ground: pictures on the ground, lower ones first (map, then heat map).
    """

    tracks: tuple[Track, ...] = ()
    ground: tuple[Raster, ...] = ()
    camera_heat: CameraHeat | None = None
    marks: Marks | None = None


NOTHING = Overlay()
