"""Frames of a real car's rig with random pictures, as a configuration's test data would give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.config import Config

import bev.data  # noqa: F401 (registers the image transforms)
from bev.data.synthetic.rig import CAMERAS, LIDAR_TOP, NATIVE_HEIGHT_PX, NATIVE_WIDTH_PX
from bev.registry import TRANSFORMS
from bev.structures import Batch, CameraRig
from bev.structures.conventions import CAMERAS_DETR3D


def real_rig(frame: str, names: tuple[str, ...], homography: np.ndarray, size_px: tuple[int, int]) -> CameraRig:
    """Six cameras of a nuScenes car, one sample, network pixels from original ones by one homography.

    Args:
        frame: reference frame, "lidar" or "ego".
        names: of the cameras, in order.
        homography: (3, 3) network px from original px.
        size_px: (H, W) of the network image.
    """
    sensors = {sensor.channel: sensor for sensor in CAMERAS}
    ego_from_ref = LIDAR_TOP.ego_from_sensor if frame == "lidar" else np.eye(4)
    intrinsics = [sensors[name].intrinsics(NATIVE_WIDTH_PX, NATIVE_HEIGHT_PX) for name in names]
    cam_from_ref = [np.linalg.inv(sensors[name].ego_from_sensor) @ ego_from_ref for name in names]
    matrices, poses = (torch.from_numpy(np.stack(part))[None] for part in (intrinsics, cam_from_ref))
    augmentation = torch.from_numpy(np.asarray(homography, np.float64)).expand(1, len(names), 3, 3)
    return CameraRig(matrices, poses, augmentation, size_px, names, torch.zeros(1, len(names), dtype=torch.long))


def test_frame(config: Config, index: int = 0) -> Batch:
    """One frame of a configuration's test data: half a second and 2.5 m after the one of the index before."""
    dataset: Any = config.test_dataloader.dataset
    image, homography = TRANSFORMS.build(dataset.image)(np.zeros((NATIVE_HEIGHT_PX, NATIVE_WIDTH_PX, 3), np.uint8))
    names = tuple(dataset.get("cameras") or CAMERAS_DETR3D)
    size_px = (image.shape[0], image.shape[1])
    generator = torch.Generator().manual_seed(index)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:2, 3] = torch.tensor([2.5, 0.2]) * index
    return Batch(
        images=torch.randint(0, 256, (1, len(names), 3, *size_px), dtype=torch.uint8, generator=generator),
        rig=real_rig(dataset.get("frame", "lidar"), names, homography, size_px),
        global_from_ref=pose[None],
        tokens=[f"frame{index}"],
        timestamp_us=torch.tensor([500_000 * index]),
        scenes=["scene"],
    )
