"""LiDAR sweeps of nuScenes: ``.pcd.bin``, five float32 a point and no header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bev.io.errors import FileError
from bev.structures import PointCloud

_BYTES_PER_POINT = 5 * 4


def read_nuscenes_points(path: Path, record: str = "") -> PointCloud:
    """Read x, y, z (m), intensity (0..255) and ring index of a sweep, in the LiDAR frame.

    Raises:
        FileError: missing, not a whole number of points, or a position that is not finite.
    """
    where = f"{path} ({record})" if record else str(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{where}: cannot read the points: {error.strerror or error}") from error
    if len(data) % _BYTES_PER_POINT:
        raise FileError(f"{where}: {len(data)} bytes is not a multiple of {_BYTES_PER_POINT}, five float32 a point")
    table = torch.from_numpy(np.frombuffer(data, "<f4").reshape(-1, 5).copy())
    if not bool(torch.isfinite(table[:, :3]).all()):
        raise FileError(f"{where}: a point has a position that is not finite")
    return PointCloud(table[:, :3], {"intensity": table[:, 3], "ring": table[:, 4]}, "lidar")
