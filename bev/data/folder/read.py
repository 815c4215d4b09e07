"""The folder format to the frames that info files give."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from bev.data.folder.schema import Box, Calibration, Frame, Matrix, read_json
from bev.data.infos.frame import InfoCamera, InfoFrame
from bev.data.nuscenes.rows import MAX_M
from bev.io import FileError
from bev.registry import suggest
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES

_ENDINGS = (".jpg", ".jpeg", ".png")


def read_folder(
    root: Path, scenes: list[str] | None = None, ego_from_lidar: Matrix | None = None
) -> list[InfoFrame]:
    """Frames of the recordings (all, or the named ones) of a folder, in the file's order.

    Args:
        ego_from_lidar: 4x4 m, used where ``calib.json`` has none; None: the LiDAR frame is then the ego frame.

    Raises:
        FileError: a file is missing or wrong, or there is no such recording; names the recording and the frame.
    """
    calibration = read_json(root / "calib.json", Calibration)
    recordings = read_json(root / "poses.json", dict[str, list[Frame]])
    for name in scenes or ():
        if name not in recordings:
            raise FileError(f"{root / 'poses.json'}: there is no recording {name!r}{suggest(name, recordings)}")
    mounts = {n: _matrix(c.ego_from_camera, 4, f"{root / 'calib.json'}: {n}") for n, c in calibration.cameras.items()}
    mount = calibration.ego_from_lidar or ego_from_lidar or np.eye(4).tolist()
    reader = _Reader(root, calibration, mounts, _matrix(mount, 4, f"{root / 'calib.json'}: LiDAR"))
    frames = [reader.frame(name, row) for name in scenes or recordings for row in recordings[name]]
    for before, after in zip(frames, frames[1:]):
        if before.scene == after.scene and after.timestamp_us <= before.timestamp_us:
            where = f"{root / 'poses.json'}: recording {after.scene!r}, frame {after.token!r}"
            raise FileError(f"{where}: timestamp_us {after.timestamp_us} is not after the frame before it")
    tokens = [frame.token for frame in frames]
    if not frames or len(set(tokens)) != len(tokens):
        twice = next((t for t in tokens if tokens.count(t) > 1), None)
        problem = f"token {twice!r} names two frames" if twice else "it holds no frames"
        raise FileError(f"{root / 'poses.json'}: {problem}")
    return frames


class _Reader:
    def __init__(
        self, root: Path, calibration: Calibration, mounts: dict[str, np.ndarray], ego_from_lidar: np.ndarray
    ) -> None:
        self.root, self.calibration, self.mounts, self.ego_from_lidar = root, calibration, mounts, ego_from_lidar
        self.intrinsics = {}
        for name, camera in calibration.cameras.items():
            matrix = _matrix(camera.intrinsics, 3, f"{root / 'calib.json'}: {name}")
            if matrix[0, 0] <= 0 or matrix[1, 1] <= 0 or matrix[2].tolist() != [0, 0, 1] or min(camera.size_px) < 0:
                raise FileError(f"{root / 'calib.json'}: {name} needs positive focal lengths, a last row 0 0 1")
            self.intrinsics[name] = matrix

    def frame(self, scene: str, row: Frame) -> InfoFrame:
        """One frame of a recording, checked; raises FileError naming the recording and the frame."""
        where = f"{self.root / 'poses.json'}: recording {scene!r}, frame {row.token!r}"
        pose = _matrix(row.global_from_ego, 4, where)
        for name in row.cameras:
            if name not in self.mounts:
                raise FileError(f"{where}: camera {name!r} is not in calib.json{suggest(name, self.mounts)}")
        frame = InfoFrame(
            row.token,
            row.timestamp_us,
            row.lidar,
            self.ego_from_lidar,
            pose,
            self._boxes(row.boxes, where),
            scene_token=scene,
        )
        for name, mount in self.mounts.items():
            given = row.cameras.get(name)
            own = given.global_from_ego if given is not None else None
            frame.cameras[name] = InfoCamera(
                self._file(name, row.token, given.file if given else None),
                given.timestamp_us if given and given.timestamp_us is not None else row.timestamp_us,
                self.intrinsics[name],
                mount,
                pose if own is None else _matrix(own, 4, f"{where}, camera {name!r}"),
                self.calibration.cameras[name].size_px,
            )
        return frame

    def _file(self, camera: str, token: str, given: str | None) -> str:
        if given is not None:
            return given
        names = [f"images/{camera}/{token}{ending}" for ending in _ENDINGS]
        return next((name for name in names if (self.root / name).exists()), names[0])

    def _boxes(self, rows: list[Box], where: str) -> Boxes3D:
        for box in rows:
            if box.label not in CLASSES:
                raise FileError(f"{where}: there is no class {box.label!r}{suggest(box.label, CLASSES)}")
        numbers = np.array([[*b.center_m, *b.size_m, b.yaw_rad] for b in rows], np.float64).reshape(-1, 7)
        velocity = [b.velocity_mps or (math.nan, math.nan) for b in rows]
        speeds = np.nan_to_num(np.array(velocity, np.float64))
        if not np.isfinite(numbers).all() or (numbers[:, 3:6] <= 0).any():
            raise FileError(f"{where}: a box has a number that is not finite or a size that is not positive")
        if max(abs(numbers).max(initial=0), abs(speeds).max(initial=0)) > MAX_M:
            raise FileError(f"{where}: a box has a number beyond {MAX_M:g}")
        values = torch.from_numpy(numbers)
        counts = torch.tensor([b.num_lidar_pts for b in rows], dtype=torch.int64)
        boxes = Boxes3D(
            values[:, :3],
            values[:, 3:6],
            values[:, 6],
            torch.tensor(velocity, dtype=torch.float64).reshape(-1, 2),
            torch.tensor([CLASSES.index(b.label) for b in rows], dtype=torch.int64),
            torch.ones(len(rows), dtype=torch.float64),
            "ego",
            num_lidar_pts=counts,
            num_radar_pts=torch.zeros_like(counts),
        )
        return boxes.transform(torch.from_numpy(np.linalg.inv(self.ego_from_lidar)), "lidar")


def _matrix(rows: Matrix, size: int, where: str) -> np.ndarray:
    """(size, size) finite matrix; rigid where it is 4x4."""
    if [len(row) for row in rows] != [size] * size or not np.isfinite(np.array(rows)).all():
        raise FileError(f"{where}: expected a {size}x{size} matrix of finite numbers")
    if abs(np.array(rows)).max() > MAX_M:
        raise FileError(f"{where}: a number beyond {MAX_M:g}")
    matrix = np.array(rows, np.float64)
    if size == 4 and (
        abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() > 1e-3
        or np.linalg.det(matrix[:3, :3]) < 0
        or matrix[3].tolist() != [0, 0, 0, 1]
    ):
        raise FileError(f"{where}: a 4x4 matrix that is no rigid transform (rotation, translation; no mirror image)")
    return matrix
