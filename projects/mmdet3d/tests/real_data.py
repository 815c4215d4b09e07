"""The small real data in the folders that the official configurations expect: links, and one info file for KITTI."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from bev.structures.conventions import CAMERAS_DETR3D

KITTI_CLASSES = ("Pedestrian", "Cyclist", "Car", "Van", "Truck", "Person_sitting", "Tram", "Misc")


def nuscenes_root(frame: Path, root: Path) -> Path:
    """``samples/<SENSOR>/...`` and the info files of both splits, of one key frame."""
    for sensor in (*CAMERAS_DETR3D, "LIDAR_TOP"):
        (file,) = frame.glob(f"*__{sensor}__*")
        folder = root / "samples" / sensor
        folder.mkdir(parents=True)
        (folder / file.name).symlink_to(file)
    (infos,) = frame.glob("*.pkl")
    for split in ("train", "val"):
        (root / f"nuscenes_infos_{split}.pkl").symlink_to(infos)
    return root


def kitti_root(frame: Path, root: Path) -> Path:
    """``training/image_2`` and the info files of both splits, of one frame."""
    picture = frame / "image_2" / "000000.png"
    folder = root / "training" / "image_2"
    folder.mkdir(parents=True)
    (folder / picture.name).symlink_to(picture)
    lines = (line.split(":") for line in (frame / "calib" / "000000.txt").read_text().splitlines() if ":" in line)
    calibration = {name: np.array(numbers.split(), dtype=float) for name, numbers in lines}
    cam2img, rectified, lidar2cam = (np.eye(4) for _ in range(3))
    cam2img[:3] = calibration["P2"].reshape(3, 4)
    rectified[:3, :3] = calibration["R0_rect"].reshape(3, 3)
    lidar2cam[:3] = calibration["Tr_velo_to_cam"].reshape(3, 4)
    labels = [line.split() for line in (frame / "label_2" / "000000.txt").read_text().splitlines() if line]
    instances = [_instance(fields, cam2img) for fields in labels if fields[0] in KITTI_CLASSES]
    camera = {"img_path": picture.name, "height": 370, "width": 1224, "cam2img": cam2img.tolist()}
    info = {
        "sample_idx": 0,
        "images": {"CAM2": {**camera, "lidar2cam": (rectified @ lidar2cam).tolist()}},
        "instances": instances,
        "cam_instances": {"CAM2": instances},
    }
    content = {"metainfo": {"dataset": "kitti", "info_version": "1.1"}, "data_list": [info]}
    for split in ("train", "val"):
        (root / f"kitti_infos_{split}.pkl").write_bytes(pickle.dumps(content))
    return root


def _instance(fields: list[str], cam2img: np.ndarray) -> dict[str, Any]:
    """One line of KITTI's label file as mmdet3d's info files have it (bottom centre, length, height, width, yaw)."""
    left, top, right, bottom, height, width, length, x, y, z, yaw = map(float, fields[4:15])
    label = KITTI_CLASSES.index(fields[0])
    u, v, depth = (cam2img @ [x, y - height / 2, z, 1])[:3]
    return {
        **{"bbox": [left, top, right, bottom], "bbox_label": label, "bbox_label_3d": label},
        **{"bbox_3d": [x, y, z, length, height, width, yaw], "depth": depth, "center_2d": [u / depth, v / depth]},
    }
