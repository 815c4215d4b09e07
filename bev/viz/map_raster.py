"""The drivable area of a nuScenes scene under the bird's-eye view, from the map masks that every nuScenes has.

Format: the tables ``map`` and ``log`` and the devkit's ``MapMask``: 0.1 m a pixel, x to the right and y upwards in the
global frame, (0, 0) the lower left corner of the picture, 255 where it is drivable.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import msgspec
import numpy as np

from bev.io import FileError
from bev.structures import Sample
from bev.viz.overlay import Raster
from bev.viz.palette import MAP
from bev.viz.scene import Array

_CELL_M = 0.1


class _Scene(msgspec.Struct):
    name: str
    log_token: str


class _Map(msgspec.Struct):
    filename: str
    log_tokens: list[str]
    category: str


class MapMasks:
    """Map masks of a nuScenes folder, read when a frame of their place is drawn.

    Args:
        root: nuScenes folder.
        version: e.g. ``"v1.0-mini"``.

    Raises:
        FileError: the tables cannot be read, or name no mask.
    """

    def __init__(self, root: str | Path, version: str) -> None:
        self.root = Path(root)
        maps = _rows(self.root / version / "map.json", _Map)
        of_log = {log: m.filename for m in maps if m.category == "semantic_prior" for log in m.log_tokens}
        scenes = _rows(self.root / version / "scene.json", _Scene)
        self._file = {scene.name: of_log[scene.log_token] for scene in scenes if scene.log_token in of_log}
        if not self._file:
            raise FileError(f"{self.root / version / 'map.json'}: it has no map mask for any scene")

    def around(self, sample: Sample, range_m: float, cell_m: float = 0.25) -> Raster:
        """The drivable area within ``range_m`` of a frame, in its reference frame.

        Raises:
            FileError: the scene has no mask, or it cannot be read.
        """
        if sample.scene not in self._file:
            raise FileError(f"{self.root}: scene {sample.scene} has no map mask")
        path = self.root / self._file[sample.scene]
        mask = _mask(path)
        count = round(2 * range_m / cell_m)
        centers = (np.arange(count) + 0.5) * cell_m - range_m
        x, y = np.meshgrid(centers, centers)
        pose = sample.global_from_ref.double().numpy()
        shown = lookup(mask, pose[:2, :2] @ np.stack([x.ravel(), y.ravel()]) + pose[:2, 3:]).reshape(count, count)
        color = np.broadcast_to(np.array(MAP, np.uint8), (count, count, 3))
        return Raster(color, shown, (-range_m, range_m), (-range_m, range_m), "drivable area (map)")


def lookup(mask: np.ndarray, xy_m: Array) -> np.ndarray:
    """(2, K) global places -> (K,) bool: drivable; False outside of the mask."""
    column = np.floor(xy_m[0] / _CELL_M).astype(np.int64)
    row = mask.shape[0] - 1 - np.floor(xy_m[1] / _CELL_M).astype(np.int64)
    inside = (column >= 0) & (column < mask.shape[1]) & (row >= 0) & (row < mask.shape[0])
    return inside & (mask[np.where(inside, row, 0), np.where(inside, column, 0)] > 127)


def _rows(path: Path, kind: type) -> list:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[kind])  # type: ignore[valid-type]
    except OSError as error:
        raise FileError(f"{path}: cannot read the table: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise FileError(f"{path}: {error}") from error


@lru_cache(maxsize=2)
def _mask(path: Path) -> np.ndarray:
    """(H, W) uint8; the masks of trainval have up to 600 million pixels, so only the latest are kept."""
    mask = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if mask is None:
        raise FileError(f"{path}: the map mask is missing or no picture")
    return mask
