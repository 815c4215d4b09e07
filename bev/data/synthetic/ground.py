"""The painted ground: one picture of the streets around the ego vehicle's route, and its coarser copies.

City frame; row = (y - origin_y) / CELL_M, column = (x - origin_x) / CELL_M (rows grow with y).
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from bev.data.synthetic import paint
from bev.data.synthetic.paths import CROSSWALK_M, CURB_M, PAVEMENT_END_M, Streets

CELL_M = 0.1
LEVELS = (1, 4, 16)  # coarser copies keep distant ground free of aliasing
WHITE, YELLOW = (214, 214, 208), (206, 168, 70)


@dataclasses.dataclass(frozen=True)
class Ground:
    """The ground as one atlas: the levels side by side.

    Attributes:
        atlas: (H, W, 3) uint8 RGB. origin_m: (2,) city x, y of cell (0, 0).
        starts, sizes: first column and (width, height) in cells of each level.
    """

    atlas: np.ndarray
    origin_m: np.ndarray
    starts: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]

    def brightness(self, xy_m: np.ndarray) -> np.ndarray:
        """Grey values (n,) 0 to 255 at city positions (n, 2) [m]; positions outside take the border's."""
        cells = ((xy_m - self.origin_m) / CELL_M).astype(np.int64)
        width, height = self.sizes[0]
        return self.atlas[np.clip(cells[:, 1], 0, height - 1), np.clip(cells[:, 0], 0, width - 1), 1]


class Painter:
    """Draws on the ground picture in city metres."""

    def __init__(self, random: np.random.Generator, low_m: np.ndarray, high_m: np.ndarray) -> None:
        self.random, self.low, self.high = random, low_m, high_m
        width, height = (np.ceil((high_m - low_m) / CELL_M / LEVELS[-1]) * LEVELS[-1]).astype(int)
        self.image = np.empty((height, width, 3), np.uint8)

    def cells(self, points_m: np.ndarray) -> np.ndarray:
        """Fixed-point cell coordinates (n, 2) int32 with 4 fractional bits; a cell's middle is a whole number."""
        return np.round(((points_m - self.low) / CELL_M - 0.5) * 16).astype(np.int32)

    def box(self, x: tuple[float, float], y: tuple[float, float], colour: paint.Colour) -> None:
        """Fill an axis-aligned rectangle [m]."""
        # Plain numbers and cv2: a scene has two thousand of these, and numpy took several times as long.
        left, right = (max(0, round((v - self.low[0]) / CELL_M)) for v in x)
        top, bottom = (max(0, round((v - self.low[1]) / CELL_M)) for v in y)
        if right > left and bottom > top:
            cv2.rectangle(self.image, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)

    def road_box(
        self, road_x: float | None, along: tuple[float, float], lateral: tuple[float, float], colour: paint.Colour
    ) -> None:
        """A rectangle along a road: the main road if ``road_x`` is None, else the cross road at that x."""
        if road_x is None:
            self.box(along, lateral, colour)
        else:
            self.box((road_x + lateral[0], road_x + lateral[1]), along, colour)

    def line(self, points_m: np.ndarray, colour: paint.Colour, cells: int) -> None:
        """An open line."""
        cv2.polylines(self.image, [self.cells(points_m)], False, colour, cells, cv2.LINE_AA, 4)


def paint_ground(
    random: np.random.Generator,
    streets: Streets,
    low_m: np.ndarray,
    high_m: np.ndarray,
    shadows_m: list[np.ndarray],
    shade: float,
) -> Ground:
    """Paint the streets between two corners [m] of the city.

    Args:
        shadows_m: convex polygons (n, 2) of standing things' shadows, burnt in.
        shade: brightness of a shadow, 0 to 1.
    """
    painter = Painter(random, low_m, high_m)
    asphalt = np.full(3, random.uniform(72, 112)) + random.normal(0, 2.5, 3)
    pavement = np.array(paint.pick(random, ((150, 146, 140), (134, 130, 128), (164, 150, 136))))
    _yards(painter, asphalt)
    roads: list[float | None] = [None, *streets.crossings]
    for road in roads:
        ends = _ends(painter, road)
        painter.road_box(road, ends, (-PAVEMENT_END_M, PAVEMENT_END_M), paint.vary(pavement))
        _slabs(painter, road, ends, pavement)
    for road in roads:
        ends = _ends(painter, road)
        painter.road_box(road, ends, (-CURB_M - 0.2, CURB_M + 0.2), paint.vary(pavement, 1.18))
    for road in roads:
        painter.road_box(road, _ends(painter, road), (-CURB_M, CURB_M), paint.vary(asphalt))
    _wear(painter, asphalt)
    yellow = random.random() < 0.6
    for road in roads:
        _marks(painter, road, streets, YELLOW if yellow else WHITE)
    image = _roughen(random, painter.image)
    return _atlas(_shade(painter, image, shadows_m, shade), painter.low)


def _ends(painter: Painter, road: float | None) -> tuple[float, float]:
    axis = 0 if road is None else 1
    return float(painter.low[axis]), float(painter.high[axis])


def _yards(painter: Painter, asphalt: np.ndarray) -> None:
    """Grass, gravel, paving and asphalt in patches behind the pavements."""
    random = painter.random
    palette = ((92, 108, 62), (104, 112, 70), (134, 122, 100), (142, 138, 130), tuple(asphalt * 0.95), (112, 98, 78))
    for x in np.arange(painter.low[0], painter.high[0], 26.0):
        for y in np.arange(painter.low[1], painter.high[1], 26.0):
            painter.box((x, x + 26.1), (y, y + 26.1), paint.pick(random, palette, 5))


def _slabs(painter: Painter, road: float | None, ends: tuple[float, float], pavement: np.ndarray) -> None:
    joint = paint.vary(pavement, 0.84)
    for at in np.arange(ends[0], ends[1], 2.0):
        painter.road_box(road, (at, at + 0.1), (-PAVEMENT_END_M, PAVEMENT_END_M), joint)
    for lateral in (-11.5, 11.5):
        painter.road_box(road, ends, (lateral, lateral + 0.1), joint)


def _wear(painter: Painter, asphalt: np.ndarray) -> None:
    """Patches, cracks and manholes."""
    random = painter.random
    area = np.prod(painter.high - painter.low)
    for _ in range(int(area / 900)):
        at = random.uniform(painter.low, painter.high)
        if abs(at[1]) > CURB_M - 2:
            continue
        size = random.uniform([1, 0.6], [7, 2.0])
        painter.box(
            (at[0], at[0] + size[0]), (at[1], at[1] + size[1]), paint.vary(asphalt, float(random.uniform(0.82, 1.12)))
        )
        crack = at + np.cumsum(random.normal(0, 0.5, (12, 2)), 0)
        painter.line(crack, paint.vary(asphalt, 0.62), 1)
        cv2.circle(
            painter.image, tuple(int(v) for v in (at - painter.low) / CELL_M + 40), 4, paint.vary(asphalt, 0.55), -1
        )


def _marks(painter: Painter, road: float | None, streets: Streets, middle: paint.Colour) -> None:
    """Middle lines, dashed lane lines, edge lines, stop lines and zebra crossings, section by section."""
    ends = _ends(painter, road)
    stops = sorted(streets.crossings) if road is None else [0.0]
    edges = [ends[0]] + [v for s in stops for v in (s - CROSSWALK_M - 0.6, s + CROSSWALK_M + 0.6)] + [ends[1]]
    for a, b in zip(edges[::2], edges[1::2]):
        if b <= a:
            continue
        for lateral in (-0.2, 0.1):
            painter.road_box(road, (a, b), (lateral, lateral + 0.12), middle)
        for lateral in (-7.05, 6.93):
            painter.road_box(road, (a, b), (lateral, lateral + 0.12), WHITE)
        for at in np.arange(a, b - 3, 9.0):
            for lateral in (-3.56, 3.44):
                painter.road_box(road, (at, at + 3.0), (lateral, lateral + 0.13), WHITE)
        for at in np.arange(a + 4, b - 6, 6.5):
            for bay in ((-CURB_M, -7.0), (7.0, CURB_M)):
                painter.road_box(road, (at, at + 0.1), bay, WHITE)
    for stop in stops:
        for sign in (-1, 1):
            _crosswalk(painter, road, stop, sign)


def _crosswalk(painter: Painter, road: float | None, stop: float, sign: int) -> None:
    a, b = sorted((stop + sign * (CURB_M + 0.4), stop + sign * CROSSWALK_M))
    for lateral in np.arange(-CURB_M + 0.4, CURB_M - 0.4, 1.1):
        painter.road_box(road, (a, b), (lateral, lateral + 0.55), WHITE)
    line = sorted((stop + sign * (CROSSWALK_M + 0.6), stop + sign * (CROSSWALK_M + 1.0)))
    # Traffic keeps right: it comes to this side of the crossing on the half that its heading has on its right.
    right = (0.2, 7.0) if (sign > 0) == (road is None) else (-7.0, -0.2)
    painter.road_box(road, (line[0], line[1]), right, WHITE)


def _roughen(random: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add fine grain and wide stains."""
    height, width = image.shape[:2]
    grain = np.clip(random.normal(64, 8, (256, 256, 1)) + random.normal(0, 3, (256, 256, 3)), 0, 255).astype(np.uint8)
    grain = np.tile(grain, (-(-height // 256), -(-width // 256), 1))[:height, :width]
    stains = cv2.resize(
        random.normal(64, 9, (height // 24 + 2, width // 24 + 2)).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )
    stains = cv2.cvtColor(np.clip(stains, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(cv2.addWeighted(image, 1, grain, 1, -64), 1, stains, 1, -64)


def _shade(painter: Painter, image: np.ndarray, shadows_m: list[np.ndarray], shade: float) -> np.ndarray:
    mask = np.zeros(image.shape[:2], np.uint8)
    for polygon in shadows_m:
        cv2.fillConvexPoly(mask, painter.cells(polygon), (255,), cv2.LINE_8, 4)
    return cv2.copyTo(cv2.convertScaleAbs(image, alpha=shade), mask, image)


def _atlas(image: np.ndarray, origin_m: np.ndarray) -> Ground:
    height, width = image.shape[:2]
    sizes = tuple((width // k, height // k) for k in LEVELS)
    starts = tuple(int(v) for v in np.cumsum([0] + [w + 4 for w, _ in sizes[:-1]]))
    atlas = np.zeros((height, starts[-1] + sizes[-1][0], 3), np.uint8)
    for (w, h), start in zip(sizes, starts):
        image = image if w == width else cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
        atlas[:h, start : start + w] = image
    return Ground(atlas, origin_m, starts, sizes)
