"""What a camera sees behind all bodies: the ground and the sky, by one table look-up a pixel.

The rig never moves on the car and the car stays level, so a pixel's ray in the ego frame is a constant: the ground
point it meets and its direction in the sky are computed once for a picture size.
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np

from bev.data.synthetic.ground import CELL_M, LEVELS, Ground
from bev.data.synthetic.rig import Sensor
from bev.data.synthetic.sky import BOTTOM_RAD, COLUMNS, ROWS, TOP_RAD

FAR_M = 260.0


@dataclasses.dataclass(frozen=True)
class RayTable:
    """Constants of a camera's H x W pixels.

    Attributes:
        sky_end: rows above it may show sky. ground_start: rows from it on may show ground.
        sky_column, sky_row: (sky_end, W) in the panorama, for a car heading 0.
        ground_xy: (G, W, 2) [m] ego-frame ground points of the rows from ground_start on.
        level: (G, W) index of the ground level with cells about as large as the pixel.
        is_ground: (sky_end - ground_start, W) uint8 mask of the mixed rows. haze: (G, W, 1) share of haze, 0 to 1.
    """

    sky_end: int
    ground_start: int
    sky_column: np.ndarray
    sky_row: np.ndarray
    ground_xy: np.ndarray
    level: np.ndarray
    is_ground: np.ndarray
    haze: np.ndarray


@functools.lru_cache(maxsize=16)
def ray_table(sensor: Sensor, width_px: int, height_px: int) -> RayTable:
    """Pixel rays of a camera for a picture size; pixel (i, j) has its middle at (i + 0.5, j + 0.5)."""
    matrix, pose = sensor.intrinsics(width_px, height_px), sensor.ego_from_sensor
    v, u = np.mgrid[0:height_px, 0:width_px] + 0.5
    ray = (
        np.stack([(u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1], np.ones_like(u)], -1)
        @ pose[:3, :3].T
    )
    height = pose[2, 3]
    flat = np.linalg.norm(ray[..., :2], axis=-1)
    distance = np.where(ray[..., 2] < -1e-6, -height / np.minimum(ray[..., 2], -1e-6) * flat, np.inf)
    ground = distance < FAR_M
    sky_end = int(np.flatnonzero((~ground).any(1))[-1]) + 1 if (~ground).any() else 0
    start = int(np.flatnonzero(ground.any(1))[0]) if ground.any() else height_px
    azimuth = np.arctan2(ray[..., 1], ray[..., 0]) % (2 * np.pi)
    elevation = np.arctan2(ray[..., 2], flat)
    row = np.clip((TOP_RAD - elevation) / (TOP_RAD - BOTTOM_RAD) * (ROWS - 1), 0, ROWS - 1)
    near = np.minimum(distance, FAR_M)[start:]
    xy = pose[:2, 3] + ray[start:, :, :2] / flat[start:, :, None] * near[..., None]
    # A pixel covers d / f across and d^2 / (f h) along its ray; their geometric mean picks the level.
    cell = near / matrix[0, 0] * np.sqrt(np.maximum(near / height, 1.0))
    level = np.digitize(cell, [CELL_M * np.sqrt(a * b) for a, b in zip(LEVELS[:-1], LEVELS[1:])])
    haze = (1 - np.exp(-((near / 190.0) ** 2)))[..., None]
    return RayTable(
        sky_end,
        start,
        (azimuth / (2 * np.pi) * COLUMNS)[:sky_end].astype(np.float32),
        row[:sky_end].astype(np.float32),
        xy.astype(np.float32),
        level,
        np.where(ground[start:sky_end], 255, 0).astype(np.uint8),
        haze.astype(np.float32),
    )


@dataclasses.dataclass(frozen=True)
class Backdrop:
    """A camera's ray table joined to one scene's ground atlas: the look-ups of a frame are affine in the ego pose."""

    table: RayTable
    ground: Ground
    panorama: np.ndarray
    haze_colour: np.ndarray
    scaled_xy: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    haze_rows: int

    def render(self, ego: np.ndarray, height_px: int) -> tuple[np.ndarray, int]:
        """Picture (H, W, 3) uint8 RGB for the ego pose (3,) x, y [m], heading [rad], and its first ground row."""
        table = self.table
        width = self.scaled_xy.shape[1]
        image = np.empty((height_px, width, 3), np.uint8)
        shift = np.float32(ego[2] / (2 * np.pi) % 1.0 * COLUMNS)
        if table.sky_end:
            image[: table.sky_end] = cv2.remap(self.panorama, table.sky_column + shift, table.sky_row, cv2.INTER_LINEAR)
        if table.ground_start < height_px:
            ground = self._ground(ego)
            mixed = table.sky_end - table.ground_start
            if mixed > 0:
                cv2.copyTo(ground[:mixed], table.is_ground, image[table.ground_start : table.sky_end])
            image[max(table.sky_end, table.ground_start) :] = ground[max(mixed, 0) :]
        return image, table.ground_start

    def _ground(self, ego: np.ndarray) -> np.ndarray:
        c, s = np.float32(np.cos(ego[2])), np.float32(np.sin(ego[2]))
        offset = ((ego[:2] - self.ground.origin_m) / CELL_M).astype(np.float32)
        x, y = self.scaled_xy[..., 0], self.scaled_xy[..., 1]
        columns = c * x - s * y + offset[0] * self.scale - 0.5 + self.low[..., 0]
        rows = s * x + c * y + offset[1] * self.scale - 0.5
        columns = np.minimum(np.maximum(columns, self.low[..., 0]), self.high[..., 0])
        rows = np.minimum(np.maximum(rows, 0.0), self.high[..., 1])
        ground = cv2.remap(self.ground.atlas, columns, rows, cv2.INTER_LINEAR)
        far = ground[: self.haze_rows]
        haze = self.table.haze[: self.haze_rows]
        far[:] = (far * (1 - haze) + self.haze_colour * haze).astype(np.uint8)
        return ground


def backdrop(table: RayTable, ground: Ground, panorama: np.ndarray, haze_colour: np.ndarray) -> Backdrop:
    """Join a camera's rays with a scene's ground (RGB haze colour (3,))."""
    scale = (1.0 / np.array(LEVELS, np.float32))[table.level]
    starts, sizes = np.array(ground.starts, np.float32), np.array(ground.sizes, np.float32)
    low = np.stack([starts[table.level], np.zeros_like(scale)], -1)
    high = low + sizes[table.level] - 1
    hazy = np.flatnonzero((table.haze[..., 0] > 0.02).any(1))
    return Backdrop(
        table,
        ground,
        panorama,
        haze_colour.astype(np.float32),
        np.ascontiguousarray(table.ground_xy / np.float32(CELL_M) * scale[..., None]),
        scale,
        low,
        high,
        int(hazy[-1]) + 1 if len(hazy) else 0,
    )
