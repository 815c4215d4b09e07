"""A nuScenes folder of a few kilobytes with random but valid tables, to be damaged by tests."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bev.structures.conventions import ATTRIBUTES, CAMERAS_BEVDET, CLASS_OF_CATEGORY

VERSION = "v1.0-tiny"
SPLITS = {"tiny_train": ["scene-a"], "tiny_val": ["scene-b"]}
IMAGE_SIZE = (90, 160)
_YAW_DEG = {"FRONT": 0, "FRONT_LEFT": 55, "FRONT_RIGHT": -55, "BACK": 180, "BACK_LEFT": 110, "BACK_RIGHT": -110}
_FRAMES = {"scene-a": 4, "scene-b": 3, "scene-c": 1}


def token(*parts: Any) -> str:
    """A nuScenes-like token."""
    return hashlib.md5(repr(parts).encode()).hexdigest()


class TinyNuScenes:
    """Builds the tables; ``write`` puts them and the sensor files into a folder."""

    # One gap is too long for a velocity.
    steps_us: tuple[int, ...] = (0, 500_000, 498_117, 3_100_000)

    def __init__(self, seed: int = 0, objects: int = 12, frames: dict[str, int] = _FRAMES) -> None:
        self.rng = np.random.default_rng(seed)
        self.tables: dict[str, list[dict[str, Any]]] = {
            name: []
            for name in (
                "attribute calibrated_sensor category ego_pose instance log map sample sample_annotation sample_data "
                "scene sensor visibility"
            ).split()
        }
        self._add_static()
        for scene, count in frames.items():
            self._add_scene(scene, count, objects)

    def _add(self, table: str, **row: Any) -> str:
        row.setdefault("token", token(table, len(self.tables[table])))
        self.tables[table].append(row)
        return row["token"]

    def _add_static(self) -> None:
        levels = ("v0-40", "v40-60", "v60-80", "v80-100")
        for number, level in enumerate(levels, 1):
            self._add("visibility", token=str(number), level=level, description="")
        for name in ATTRIBUTES:
            self._add("attribute", name=name, description="")
        for name in (*CLASS_OF_CATEGORY, "animal", "static_object.bicycle_rack"):
            self._add("category", name=name, description="")
        for name in ("LIDAR_TOP", *CAMERAS_BEVDET):
            modality = "camera" if name.startswith("CAM") else "lidar"
            self._add("sensor", token=token(name), channel=name, modality=modality)

    def _quaternion(self, yaw: float, tilt: float) -> list[float]:
        axis = np.array([*self.rng.normal(0, tilt, 2), 0.0])
        q = np.array([math.cos(yaw / 2), axis[0], axis[1], math.sin(yaw / 2)])
        return (q / np.linalg.norm(q)).tolist()

    def _add_scene(self, scene: str, count: int, objects: int) -> None:
        log = self._add("log", logfile="n", vehicle="v", date_captured="2018-01-01", location="singapore-onenorth")
        self._add("map", category="semantic_prior", filename="", log_tokens=[log])
        samples = [token(scene, i) for i in range(count)]
        self._add(
            "scene",
            token=token(scene),
            name=scene,
            log_token=log,
            nbr_samples=count,
            first_sample_token=samples[0],
            last_sample_token=samples[-1],
            description="",
        )
        calibrations = {s["channel"]: self._add_calibration(scene, s) for s in self.tables["sensor"]}
        start = 1_530_000_000_000_000 + int(self.rng.integers(10**12))
        times = start + np.cumsum(self.steps_us[:count])
        for i in range(count):
            neighbours = {"prev": samples[i - 1] if i else "", "next": samples[i + 1] if i + 1 < count else ""}
            self._add("sample", token=samples[i], timestamp=int(times[i]), scene_token=token(scene), **neighbours)
            self._add_sensor_data(scene, i, samples[i], int(times[i]), calibrations)
        self._add_objects(scene, samples, objects)

    def _add_calibration(self, scene: str, sensor: dict[str, Any]) -> str:
        name = sensor["channel"]
        row: dict[str, Any] = {"sensor_token": sensor["token"], "camera_intrinsic": []}
        if sensor["modality"] == "camera":
            yaw = math.radians(_YAW_DEG[name.removeprefix("CAM_")])
            c, s = math.cos(yaw / 2), math.sin(yaw / 2)
            # ego_from_camera: turn about z, then camera axes (x right, y down, z forward).
            w, x, y, z = 0.5, -0.5, 0.5, -0.5
            row["rotation"] = [c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w]
            row["camera_intrinsic"] = [[126.6 + self.rng.random(), 0, 80.0], [0, 126.6, 45.0], [0, 0, 1]]
            row["translation"] = [1.5 * math.cos(yaw), 0.5 * math.sin(yaw), 1.5]
        else:
            row["rotation"], row["translation"] = self._quaternion(-math.pi / 2, 0.01), [0.94, 0.0, 1.84]
        return self._add("calibrated_sensor", token=token(scene, name, "calibration"), **row)

    def _add_sensor_data(self, scene: str, i: int, sample: str, time_us: int, calibrations: dict[str, str]) -> None:
        for offset, (name, calibration) in enumerate(calibrations.items()):
            when = time_us - 7_013 * offset
            pose = self._add(
                "ego_pose",
                token=token(scene, i, name, "pose"),
                timestamp=when,
                rotation=self._quaternion(0.3 + 0.1 * i - 1e-3 * offset, 0.01),
                translation=[1010.0 + 2.5 * i - 0.01 * offset, 610.0 + i, 0.0],
            )
            camera = name.startswith("CAM")
            self._add(
                "sample_data",
                token=token(scene, i, name),
                sample_token=sample,
                ego_pose_token=pose,
                calibrated_sensor_token=calibration,
                timestamp=when,
                fileformat="jpg" if camera else "pcd",
                is_key_frame=True,
                height=IMAGE_SIZE[0] if camera else 0,
                width=IMAGE_SIZE[1] if camera else 0,
                filename=f"samples/{name}/{scene}__{i}.{'jpg' if camera else 'pcd.bin'}",
                prev="",
                next="",
            )

    def _add_objects(self, scene: str, samples: list[str], count: int) -> None:
        for number in range(count):
            category = self.tables["category"][int(self.rng.integers(len(self.tables["category"])))]
            instance = token(scene, "object", number)
            seen = sorted(self.rng.permutation(len(samples))[: int(self.rng.integers(1, len(samples) + 1))].tolist())
            annotations = [token(instance, i) for i in seen]
            self._add(
                "instance",
                token=instance,
                category_token=category["token"],
                nbr_annotations=len(seen),
                first_annotation_token=annotations[0],
                last_annotation_token=annotations[-1],
            )
            attributes = [[], [self.tables["attribute"][int(self.rng.integers(8))]["token"]]][number % 2]
            for k, i in enumerate(seen):
                self._add(
                    "sample_annotation",
                    token=annotations[k],
                    sample_token=samples[i],
                    instance_token=instance,
                    visibility_token=str(int(self.rng.integers(1, 5))),
                    attribute_tokens=attributes,
                    translation=[1010 + self.rng.normal(0, 15), 610 + self.rng.normal(0, 15), 1.0],
                    size=self.rng.uniform(0.5, 5, 3).tolist(),
                    rotation=self._quaternion(self.rng.uniform(-3, 3), 0.0),
                    prev=annotations[k - 1] if k else "",
                    next=annotations[k + 1] if k + 1 < len(seen) else "",
                    num_lidar_pts=int(self.rng.integers(0, 3)),
                    num_radar_pts=int(self.rng.integers(0, 2)),
                )

    def write(self, root: Path) -> Path:
        """Write tables, splits, pictures and points; returns ``root``."""
        folder = root / VERSION
        folder.mkdir(parents=True)
        for name, rows in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(rows))
        (folder / "splits.json").write_text(json.dumps(SPLITS))
        for row in self.tables["sample_data"]:
            path = root / row["filename"]
            path.parent.mkdir(parents=True, exist_ok=True)
            if row["fileformat"] == "jpg":
                picture = cv2.resize(self.rng.integers(0, 256, (9, 16, 3), np.uint8), IMAGE_SIZE[::-1])
                cv2.imwrite(str(path), picture)
            else:
                self.rng.normal(0, 10, (50, 5)).astype("<f4").tofile(path)
        return root


def edit_table(root: Path, table: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change a table of a written folder in place."""
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))
