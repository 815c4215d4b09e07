"""A folder in the format of any rig: eleven cameras of two sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CAMERAS = [f"cam{i:02d}" for i in range(11)]


def turn(yaw: float, x: float = 0.0) -> list[list[float]]:
    c, s = np.cos(yaw), np.sin(yaw)
    return [[c, -s, 0, x], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def ego_from_camera(yaw: float) -> list[list[float]]:
    axes = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], float)
    return (np.array(turn(yaw)) @ axes).tolist()


def write_rig(root: Path) -> Path:
    """Two recordings of three frames and one; odd cameras are smaller; boxes and points in the first."""
    rng, cameras = np.random.default_rng(0), {}
    for i, name in enumerate(CAMERAS):
        height, width = (90, 160) if i % 2 == 0 else (60, 80)
        k = [[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]]
        yaw = 2 * np.pi * i / len(CAMERAS)
        cameras[name] = {"intrinsics": k, "ego_from_camera": ego_from_camera(yaw), "size_px": [height, width]}
    box = {"label": "car", "center_m": [10, 1, 0.8], "size_m": [4.5, 1.9, 1.6], "yaw_rad": 0.3, "velocity_mps": [1, 0]}
    poses: dict[str, list[dict[str, Any]]] = {"monday": [], "tuesday": []}
    for scene, count in (("monday", 3), ("tuesday", 1)):
        for f in range(count):
            token = f"{scene}{f}"
            frame = {"token": token, "timestamp_us": 500_000 * f + 1, "global_from_ego": turn(0.1 * f, 3.0 * f)}
            if scene == "monday":
                frame |= {"boxes": [box], "lidar": f"lidar/{token}.pcd.bin"}
                frame["cameras"] = {"cam03": {"timestamp_us": 7, "global_from_ego": turn(0.1 * f + 0.05)}}
                (root / "lidar").mkdir(parents=True, exist_ok=True)
                rng.normal(0, 9, (40, 5)).astype("<f4").tofile(root / frame["lidar"])
            poses[scene].append(frame)
            for name, camera in cameras.items():
                (root / "images" / name).mkdir(parents=True, exist_ok=True)
                picture = rng.integers(0, 255, (*camera["size_px"], 3), np.uint8)
                cv2.imwrite(str(root / f"images/{name}/{token}.jpg"), picture)
    (root / "calib.json").write_text(json.dumps({"cameras": cameras, "ego_from_lidar": turn(np.pi / 2, 1.0)}))
    (root / "poses.json").write_text(json.dumps(poses))
    return root
