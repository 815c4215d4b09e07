"""Drives the sensors through one scene: writes its files and returns its table rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable

import cv2
import numpy as np

from bev.data.synthetic.annotation import KeyFrame, annotate, yaw_quaternion
from bev.data.synthetic.camera import SUPER, Camera
from bev.data.synthetic.crowd import gather
from bev.data.synthetic.imaging import Film
from bev.data.synthetic.lidar import Lidar, Scan, count_inside, to_ego
from bev.data.synthetic.options import SceneKey, WorldOptions
from bev.data.synthetic.paths import PAVEMENT_END_M
from bev.data.synthetic.rig import CAMERAS, LIDAR, NATIVE_WIDTH_PX, SENSORS, Sensor
from bev.data.synthetic.scene import KEY_PERIOD_S, Scene, build_scene
from bev.data.synthetic.tables import SCENE_TABLES, Record, encode_rows, token

EPOCH_US = 1_600_000_000_000_000
KEY_JITTER_US, CAMERA_JITTER_US = 1500, 400
MASK_CELL_M = 0.1  # the devkit's map masks have 10 pixels a metre


@dataclasses.dataclass(frozen=True)
class SceneRows:
    """Encoded rows of one scene: table name -> JSON rows without brackets."""

    key: SceneKey
    rows: dict[str, bytes]


class Recorder:
    """Records one scene into a data set folder."""

    def __init__(self, options: WorldOptions, key: SceneKey, root: Path) -> None:
        self.options, self.key, self.root = options, key, root
        self.scene: Scene = build_scene(options, key)
        self.crowd = gather(self.scene.bodies)
        size = (options.width, options.height)
        self.cameras = [Camera(sensor, self.scene, self.crowd, *size) for sensor in CAMERAS]
        self.lidar = Lidar(self.crowd, self.scene.ground)
        seeds = self.scene.noise_seed.spawn(3)
        self.film = Film(np.random.default_rng(seeds[0]), len(CAMERAS), *size, options.jpeg_quality)
        self.luck = np.random.default_rng(seeds[1])
        self.clock = np.random.default_rng(seeds[2])
        self.start_us = EPOCH_US + ((10_000 if key.held_out else 0) + key.number) * 3_600_000_000
        self.token = token(options.seed, key.name)
        self.logfile = f"synthetic-{options.seed}-{key.name}"
        self.labelled = np.array([i for i, b in enumerate(self.scene.bodies) if b.category], np.int64)
        self.sizes = np.stack([self.scene.bodies[i].size for i in self.labelled])
        self.tables: dict[str, list[Record]] = {name: [] for name in SCENE_TABLES}

    def record(self, tick: Callable[[], None]) -> SceneRows:
        """Write all sensor files of the scene; ``tick`` is called after every key frame."""
        count = self.options.frames_per_scene
        jitter = self.clock.integers(-KEY_JITTER_US, KEY_JITTER_US + 1, count)
        stamps = self.start_us + np.arange(count) * int(KEY_PERIOD_S * 1e6) + jitter
        samples = [token(self.token, "sample", int(k)) for k in range(count)]
        frames = []
        for k, stamp in enumerate(stamps.tolist()):
            if k:
                self._sweeps(int(stamps[k - 1]), stamp, samples[k])
            frames.append(self._key_frame(stamp, samples[k]))
            tick()
        self._chain_sensor_data()
        for own, before, after, stamp in zip(samples, ["", *samples], [*samples[1:], ""], stamps.tolist()):
            self.tables["sample"].append(
                {"token": own, "timestamp": stamp, "prev": before, "next": after, "scene_token": self.token}
            )
        bodies = [self.scene.bodies[i] for i in self.labelled]
        self.tables["instance"], self.tables["sample_annotation"] = annotate(self.token, bodies, frames)
        self._scene_records(samples)
        return SceneRows(self.key, {name: encode_rows(rows) for name, rows in self.tables.items()})

    def _seconds(self, stamp_us: int) -> float:
        return (stamp_us - self.start_us) * 1e-6

    def _key_frame(self, stamp: int, sample: str) -> KeyFrame:
        whole, visible = np.zeros(len(self.crowd), np.int64), np.zeros(len(self.crowd), np.int64)
        for index, camera in enumerate(self.cameras):
            delay = camera.sensor.delay_us + int(self.clock.integers(-CAMERA_JITTER_US, CAMERA_JITTER_US + 1))
            time_s = self._seconds(stamp + delay)
            view = camera.view(self.scene.ego_at(time_s), self.scene.poses_at(time_s))
            whole[view.members] += view.whole
            visible[view.members] += view.visible
            self._sensor_data(camera.sensor, stamp + delay, sample, True, self.film.develop(index, view.image))
        time_s = self._seconds(stamp)
        ego, poses = self.scene.ego_at(time_s), self.scene.poses_at(time_s)
        scan = self._scan(ego, poses, stamp, sample, True)
        ids = self.labelled
        relative = to_ego(poses[ids], ego)
        moved = self.scene.poses_at(time_s + 0.1)[ids, :2] - self.scene.poses_at(time_s - 0.1)[ids, :2]
        area = visible[ids] * (NATIVE_WIDTH_PX / (SUPER * self.options.width)) ** 2
        return KeyFrame(
            sample,
            self._to_global(poses[ids]),
            np.linalg.norm(moved, axis=1) / 0.2,
            np.linalg.norm(relative[:, :2], axis=1),
            count_inside(scan, relative, self.sizes),
            visible[ids] / np.maximum(whole[ids], 1),
            area,
        )

    def _sweeps(self, before: int, after: int, sample: str) -> None:
        """Sweeps between two key frames; as in nuScenes they belong to the key frame that follows."""
        for k in range(self.options.sweeps):
            stamp = before + (after - before) * (k + 1) // (self.options.sweeps + 1)
            time_s = self._seconds(stamp)
            self._scan(self.scene.ego_at(time_s), self.scene.poses_at(time_s), stamp, sample, False)

    def _scan(self, ego: np.ndarray, poses: np.ndarray, stamp: int, sample: str, key_frame: bool) -> Scan:
        scan = self.lidar.scan(ego, poses, self.luck)
        self._sensor_data(SENSORS[-1], stamp, sample, key_frame, scan.points.tobytes())
        return scan

    def _to_global(self, poses: np.ndarray) -> np.ndarray:
        """City poses (n, 3) in the global frame."""
        turn = self.scene.global_from_city
        xy = poses[:, :1] * turn[:2, 0] + poses[:, 1:2] * turn[:2, 1] + turn[:2, 3]
        return np.column_stack([xy, poses[:, 2] + np.arctan2(turn[1, 0], turn[0, 0])])

    def _sensor_data(self, sensor: Sensor, stamp: int, sample: str, key_frame: bool, content: bytes) -> None:
        """Write one sensor file and append its records (prev and next follow in `_chain_sensor_data`)."""
        camera = sensor.channel != LIDAR
        folder, suffix = ("samples" if key_frame else "sweeps"), ("jpg" if camera else "pcd.bin")
        filename = f"{folder}/{sensor.channel}/{self.logfile}__{sensor.channel}__{stamp}.{suffix}"
        (self.root / filename).write_bytes(content)
        own = token(self.token, sensor.channel, stamp)
        x, y, heading = self._to_global(self.scene.ego_at(self._seconds(stamp))[None])[0].tolist()
        self.tables["ego_pose"].append(
            {"token": own, "timestamp": stamp, "rotation": yaw_quaternion(heading), "translation": [x, y, 0.0]}
        )
        self.tables["sample_data"].append(
            {
                "token": own,
                "sample_token": sample,
                "ego_pose_token": own,
                "calibrated_sensor_token": token(self.token, "calibration", sensor.channel),
                "timestamp": stamp,
                "fileformat": "jpg" if camera else "pcd",
                "is_key_frame": key_frame,
                "height": self.options.height if camera else 0,
                "width": self.options.width if camera else 0,
                "filename": filename,
                "prev": "",
                "next": "",
            }
        )

    def _chain_sensor_data(self) -> None:
        """Link every sensor's data in order of time, key frames and sweeps alike."""
        last: dict[str, Record] = {}
        for record in self.tables["sample_data"]:
            sensor = record["calibrated_sensor_token"]
            if sensor in last:
                record["prev"], last[sensor]["next"] = last[sensor]["token"], record["token"]
            last[sensor] = record

    def _scene_records(self, samples: list[str]) -> None:
        log, scene = token(self.token, "log"), self.scene
        mask = f"maps/{token(self.token, 'map')}.png"
        write_map_mask(self.root / mask, scene)
        self.tables["log"].append(
            {
                "token": log,
                "logfile": self.logfile,
                "vehicle": "synthetic",
                "date_captured": "2020-09-13",
                "location": f"synthetic-{self.key.name}",
            }
        )
        self.tables["map"].append(
            {"token": token(self.token, "map"), "log_tokens": [log], "category": "semantic_prior", "filename": mask}
        )
        self.tables["scene"].append(
            {
                "token": self.token,
                "log_token": log,
                "nbr_samples": len(samples),
                "first_sample_token": samples[0],
                "last_sample_token": samples[-1],
                "name": self.key.name,
                "description": f"Synthetic town, {scene.light.name}, {scene.route_name}, {len(self.labelled)} objects",
            }
        )
        for sensor in SENSORS:
            camera = sensor.channel != LIDAR
            matrix = sensor.intrinsics(self.options.width, self.options.height).tolist() if camera else []
            self.tables["calibrated_sensor"].append(
                {
                    "token": token(self.token, "calibration", sensor.channel),
                    "sensor_token": token("sensor", sensor.channel),
                    "translation": list(sensor.translation_m),
                    "rotation": list(sensor.rotation),
                    "camera_intrinsic": matrix,
                }
            )


def write_map_mask(path: Path, scene: Scene) -> None:
    """The devkit's map mask: 255 on roads and pavements; 0.1 m a pixel, global y upwards, (0, 0) lower left."""
    turn = scene.global_from_city
    side = int(round(2 * float(scene.map_half_m) / MASK_CELL_M))
    image = np.zeros((side, side), np.uint8)
    reach, half = 2000.0, PAVEMENT_END_M
    strips = [np.array([[-reach, -half], [reach, -half], [reach, half], [-reach, half]])]
    strips += [
        np.array([[c - half, -reach], [c + half, -reach], [c + half, reach], [c - half, reach]])
        for c in scene.streets.crossings
    ]
    for strip in strips:
        xy = strip @ turn[:2, :2].T + turn[:2, 3]
        pixels = np.column_stack([xy[:, 0], side * MASK_CELL_M - xy[:, 1]]) / MASK_CELL_M
        cv2.fillConvexPoly(image, np.round(pixels).astype(np.int32), (255,))
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f"cannot write the map mask {path}")
