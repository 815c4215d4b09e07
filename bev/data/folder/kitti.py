"""KITTI's object detection data (cvlibs.net/datasets/kitti, development kit): one colour camera, no recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bev.data.infos.frame import InfoCamera, InfoFrame
from bev.data.nuscenes.rows import MAX_M
from bev.io import FileError
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES

CAMERA = "image_2"
# KITTI's names for what nuScenes' classes are; the others (Misc, Tram, DontCare ...) are left out.
_CLASS_OF = {
    "Car": "car",
    "Van": "car",
    "Truck": "truck",
    "Pedestrian": "pedestrian",
    "Person_sitting": "pedestrian",
    "Cyclist": "bicycle",
}


def read_kitti(root: Path) -> list[InfoFrame]:
    """Frames of ``<root>/{calib,image_2,velodyne[,label_2]}``, by number.

    The Velodyne frame (x forward, y left, z up) is both LiDAR and ego frame, and global too: there are no poses.

    Raises:
        FileError: no frames, or a file is wrong; names the file and the line.
    """
    paths = sorted((root / "calib").glob("*.txt"))
    if not paths:
        raise FileError(f"{root}: no calib/*.txt, so this is no KITTI object folder")
    return [_frame(root, path, number) for number, path in enumerate(paths)]


def _frame(root: Path, path: Path, number: int) -> InfoFrame:
    intrinsics, camera_from_lidar, rect_from_lidar = _calibration(path)
    lidar = f"velodyne/{path.stem}.bin"
    frame = InfoFrame(
        path.stem,
        number * 100_000_000,  # frames of this data set are no sequence
        lidar if (root / lidar).exists() else "",
        np.eye(4),
        np.eye(4),
        _labels(root / "label_2" / path.name, np.linalg.inv(rect_from_lidar)),
        scene_token=path.stem,
    )
    picture = next((f for e in (".png", ".jpg") if (root / (f := f"{CAMERA}/{path.stem}{e}")).exists()), None)
    frame.cameras[CAMERA] = InfoCamera(
        picture or f"{CAMERA}/{path.stem}.png",
        frame.timestamp_us,
        intrinsics,
        np.linalg.inv(camera_from_lidar),
        np.eye(4),
    )
    return frame


def _calibration(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intrinsics of camera 2 (3, 3), and camera 2 and the rectified camera 0 from the LiDAR (4, 4)."""
    try:
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if line.strip())
        numbers = {name: np.array(text.split(), np.float64) for name, text in lines.items()}
        projection = numbers["P2"].reshape(3, 4)
        rectification, mount = numbers["R0_rect"].reshape(3, 3), numbers["Tr_velo_to_cam"].reshape(3, 4)
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{path}: no KITTI calibration (P2, R0_rect, Tr_velo_to_cam): {error!r}") from error
    intrinsics = projection[:, :3]
    if not all(np.isfinite(m).all() for m in (projection, rectification, mount)) or min(intrinsics.diagonal()) <= 0:
        raise FileError(f"{path}: a matrix with numbers that are not finite, or a focal length that is not positive")
    rect_from_lidar = np.eye(4)
    rect_from_lidar[:3] = rectification @ mount
    camera_from_rect = np.eye(4)
    camera_from_rect[:3, 3] = np.linalg.solve(intrinsics, projection[:, 3])
    return intrinsics, camera_from_rect @ rect_from_lidar, rect_from_lidar


def _labels(path: Path, lidar_from_rect: np.ndarray) -> Boxes3D:
    """Boxes of a label file in the LiDAR frame; none where there is no file (test split)."""
    rows, labels = [], []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
        words = line.split()
        if not words or words[0] not in _CLASS_OF:
            continue
        try:
            height, width, length, x, y, z, turn = (float(word) for word in words[8:15])
        except ValueError as error:
            raise FileError(f"{path}: line {number}: expected 15 columns of a KITTI label: {line!r:.80}") from error
        # Labels stand on the bottom face; y points down, and rotation_y turns x towards -z.
        center = lidar_from_rect @ (x, y - height / 2, z, 1)
        heading = lidar_from_rect[:3, :3] @ (np.cos(turn), 0, -np.sin(turn))
        numbers = [*center[:3], length, width, height, np.arctan2(heading[1], heading[0])]
        if not np.isfinite(numbers).all() or min(height, width, length) <= 0 or abs(np.array(numbers)).max() > MAX_M:
            raise FileError(f"{path}: line {number}: a number that is not finite or too large, or a size not positive")
        rows.append(numbers)
        labels.append(CLASSES.index(_CLASS_OF[words[0]]))
    values = torch.from_numpy(np.array(rows, np.float64).reshape(-1, 7))
    ones = torch.ones(len(rows), dtype=torch.int64)
    return Boxes3D(
        values[:, :3],
        values[:, 3:6],
        values[:, 6],
        torch.full((len(rows), 2), torch.nan, dtype=torch.float64),
        torch.tensor(labels, dtype=torch.int64),
        ones.double(),
        "lidar",
        num_lidar_pts=ones,  # KITTI does not count; every label counts as seen
        num_radar_pts=0 * ones,
    )
