"""Random samples for tests of transforms."""

from __future__ import annotations

import math

import numpy as np
import torch

from bev.geometry.rotations import rotation_about_z
from bev.geometry.transforms import rigid
from bev.structures import Boxes3D, CameraRig, PointCloud, Sample
from bev.structures.conventions import CAMERAS_DETR3D

_YAW_DEG = {"FRONT": 90, "FRONT_LEFT": 145, "FRONT_RIGHT": 35, "BACK": -90, "BACK_LEFT": 200, "BACK_RIGHT": -20}
_AXES = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]], dtype=torch.float64)  # camera axes of a forward x


def random_sample(seed: int = 0, size: tuple[int, int] = (48, 80), boxes: int = 5) -> Sample:
    """Six cameras around a LiDAR frame (y forward), not quite symmetric; random pictures, boxes and points."""
    rng = np.random.default_rng(seed)
    yaw = torch.tensor([math.radians(_YAW_DEG[n[4:]] + rng.normal(0, 1)) for n in CAMERAS_DETR3D]).double()
    camera_from_ref = torch.einsum("ij,njk->nik", _AXES, rotation_about_z(-yaw))
    rig = CameraRig(
        intrinsics=torch.tensor([[[40 + rng.random(), 0, 41.0], [0, 40.5, 23.0], [0, 0, 1]]] * 6, dtype=torch.float64),
        cam_from_ref=rigid(camera_from_ref, torch.from_numpy(rng.normal(0, 0.5, (6, 3)))),
        image_aug=torch.eye(3, dtype=torch.float64).repeat(6, 1, 1),
        image_size_px=size,
        names=CAMERAS_DETR3D,
        timestamp_us=torch.arange(6),
    )
    return Sample(
        images=torch.from_numpy(rng.integers(0, 256, (6, 3, *size), np.uint8)),
        rig=rig,
        global_from_ref=rigid(rotation_about_z(torch.tensor(0.7)).double(), torch.tensor([100.0, -50, 1]).double()),
        token=f"t{seed}",
        timestamp_us=seed,
        scene="s",
        boxes=random_boxes(rng, boxes),
        points=PointCloud(torch.from_numpy(rng.normal(0, 20, (30, 3))).float()),
    )


def random_boxes(rng: np.random.Generator, count: int) -> Boxes3D:
    """Boxes in the LiDAR frame; the last one's velocity is not known."""
    velocity = rng.normal(0, 5, (count, 2))
    velocity[-1:] = np.nan
    return Boxes3D(
        center_m=torch.from_numpy(rng.normal(0, 20, (count, 3))).float(),
        size_m=torch.from_numpy(rng.uniform(0.5, 6, (count, 3))).float(),
        yaw_rad=torch.from_numpy(rng.uniform(-math.pi, math.pi, count)).float(),
        velocity_mps=torch.from_numpy(velocity).float(),
        label=torch.from_numpy(rng.integers(0, 10, count)),
        score=torch.ones(count),
        frame="lidar",
    )
