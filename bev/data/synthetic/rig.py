"""The sensor rig: a real nuScenes car's calibration (log n015-2018-07-24-11-22-45+0800, key frame ca9a282c...).

Frames: ego x forward, y left, z up, origin on the ground below the rear axle; camera x right, y down, z forward;
LIDAR_TOP x right, y forward, z up. Quaternions are (w, x, y, z) and map sensor to ego.
"""

from __future__ import annotations

import dataclasses

import numpy as np

NATIVE_WIDTH_PX, NATIVE_HEIGHT_PX = 1600, 900
LIDAR = "LIDAR_TOP"


@dataclasses.dataclass(frozen=True)
class Sensor:
    """One mounted sensor.

    Attributes:
        focal_px, center_px: pinhole of the native 1600x900 picture (None and () for the LiDAR).
        translation_m: (3,) position in the ego frame.
        rotation: (4,) unit quaternion (w, x, y, z), ego_from_sensor.
        delay_us: exposure time relative to the LiDAR's time stamp: the cameras fire as the beam sweeps past.
    """

    channel: str
    focal_px: float | None
    center_px: tuple[float, ...]
    translation_m: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    delay_us: int

    @property
    def ego_from_sensor(self) -> np.ndarray:
        """(4, 4) float64."""
        return rigid(quaternion_matrix(self.rotation), np.array(self.translation_m))

    def intrinsics(self, width_px: int, height_px: int) -> np.ndarray:
        """(3, 3) float64 for a picture of the given size; pixel (i, j) covers [i, i+1) x [j, j+1)."""
        if self.focal_px is None:
            raise ValueError(f"{self.channel} is no camera and has no intrinsics")
        x, y = width_px / NATIVE_WIDTH_PX, height_px / NATIVE_HEIGHT_PX
        (cu, cv), f = self.center_px, self.focal_px
        return np.array([[f * x, 0.0, cu * x], [0.0, f * y, cv * y], [0.0, 0.0, 1.0]])


CAMERAS = (
    Sensor(
        "CAM_FRONT",
        1266.417203,
        (816.267020, 491.507066),
        (1.700791, 0.015946, 1.510958),
        (0.499801543, -0.503031616, 0.499779811, -0.497370838),
        -35491,
    ),
    Sensor(
        "CAM_FRONT_RIGHT",
        1260.847445,
        (807.968245, 495.334427),
        (1.550848, -0.493405, 1.495748),
        (0.206034793, -0.202694054, 0.682450784, -0.671361089),
        -27612,
    ),
    Sensor(
        "CAM_FRONT_LEFT",
        1272.597947,
        (826.615493, 479.751654),
        (1.523878, 0.494631, 1.509328),
        (0.675726504, -0.673626653, 0.212140149, -0.211228269),
        -43107,
    ),
    Sensor(
        "CAM_BACK",
        809.220991,
        (829.219600, 481.778424),
        (0.028326, 0.003451, 1.579103),
        (0.503787267, -0.497402498, -0.494185022, 0.50454961),
        -10426,
    ),
    Sensor(
        "CAM_BACK_LEFT",
        1256.741481,
        (792.112574, 492.775747),
        (1.035691, 0.484795, 1.590970),
        (0.692418559, -0.703161942, -0.11648343, 0.112033181),
        -528,
    ),
    Sensor(
        "CAM_BACK_RIGHT",
        1259.513741,
        (807.252905, 501.195799),
        (1.014878, -0.480568, 1.562395),
        (0.1228098, -0.132400842, -0.700430582, 0.690496031),
        -20058,
    ),
)
LIDAR_TOP = Sensor(
    LIDAR, None, (), (0.943713, 0.0, 1.840230), (0.707795515, -0.006492243, 0.010646210, -0.706307312), 0
)
SENSORS = CAMERAS + (LIDAR_TOP,)

# Velodyne HDL-32E as mounted on the nuScenes cars.
BEAMS, COLUMNS = 32, 1084
LOWEST_BEAM_RAD, HIGHEST_BEAM_RAD = np.radians(-30.67), np.radians(10.67)


def quaternion_matrix(rotation: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of a quaternion (w, x, y, z), which is normalised first."""
    w, x, y, z = np.asarray(rotation, np.float64) / np.linalg.norm(rotation)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def rigid(rotation: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """(4, 4) transform of a rotation (3, 3) and a translation (3,)."""
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, translation_m
    return out


def planar_pose(x_m: float, y_m: float, yaw_rad: float) -> np.ndarray:
    """(4, 4) transform of a body that stands on the ground plane: world_from_body."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return rigid(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), np.array([x_m, y_m, 0.0]))


def invert_rigid(transform: np.ndarray) -> np.ndarray:
    """Inverse of a (4, 4) rigid transform."""
    rotation = transform[:3, :3].T
    return rigid(rotation, -rotation @ transform[:3, 3])
