"""``calib.json`` and ``poses.json`` of the folder format, checked field by field.

::

    my_recordings/
      calib.json    {"cameras": {"front": {"intrinsics": 3x3 px, "ego_from_camera": 4x4 m, "size_px": [H, W]}, ...},
                     "ego_from_lidar": 4x4 m}
      poses.json    {"monday": [{"token": "0001", "timestamp_us": 1, "global_from_ego": 4x4 m, ...}, ...], ...}
      images/front/0001.jpg     or any path given under "cameras"

Matrices are nested lists, row by row. Cameras look along +z with x to the right and y down (OpenCV), the vehicle is x
forward, y left, z up. Everything that is not needed to predict may be left out: see the classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from bev.io import FileError

Matrix = list[list[float]]


class Camera(msgspec.Struct, forbid_unknown_fields=True):
    """A mounted camera; ``size_px`` (H, W) lets wrong pictures be noticed, [0, 0] takes any."""

    intrinsics: Matrix
    ego_from_camera: Matrix
    size_px: tuple[int, int] = (0, 0)


class Calibration(msgspec.Struct, forbid_unknown_fields=True):
    """``calib.json``; without ``ego_from_lidar`` the LiDAR frame is the ego frame."""

    cameras: dict[str, Camera]
    ego_from_lidar: Matrix | None = None


class Picture(msgspec.Struct, forbid_unknown_fields=True):
    """A picture that is not ``images/<camera>/<token>.jpg`` at the frame's own time and pose."""

    file: str | None = None
    timestamp_us: int | None = None
    global_from_ego: Matrix | None = None


class Box(msgspec.Struct, forbid_unknown_fields=True):
    """A true box in the ego frame: centre, length, width, height, heading counter-clockwise from x."""

    label: str
    center_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    yaw_rad: float
    velocity_mps: tuple[float, float] | None = None
    num_lidar_pts: int = 1


class Frame(msgspec.Struct, forbid_unknown_fields=True):
    """A frame of a recording, which is in order of time. ``lidar`` is any point file, ``boxes`` are for training."""

    token: str
    timestamp_us: int
    global_from_ego: Matrix
    cameras: dict[str, Picture] = {}
    lidar: str = ""
    boxes: list[Box] = []


Kind = TypeVar("Kind")


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """Decode a file; raises FileError naming it and the field."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise FileError(f"{path}: cannot read it: {error.strerror or error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: {error}") from error
