"""Small hand-made rigs and frames for model tests."""

from __future__ import annotations

import math

import torch

from bev.structures import Batch, Boxes3D, CameraRig, PointCloud


def ring_rig(
    cameras: int = 6, size_px: tuple[int, int] = (64, 96), batch: int = 1, focal_px: float = 60.0
) -> CameraRig:
    """Cameras at the origin, 1 m up, looking outwards at equal angles in a frame with z up."""
    height, width = size_px
    intrinsics = torch.tensor([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]], dtype=torch.float64)
    poses = []
    for i in range(cameras):
        angle = 2 * math.pi * i / cameras
        forward = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        right = torch.tensor([math.sin(angle), -math.cos(angle), 0.0])
        rotation = torch.stack([right, torch.tensor([0.0, 0.0, -1.0]), forward])
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = rotation
        pose[:3, 3] = -(rotation @ torch.tensor([0.0, 0.0, 1.0]))
        poses.append(pose)
    return CameraRig(
        intrinsics.expand(batch, cameras, 3, 3),
        torch.stack(poses).expand(batch, cameras, 4, 4),
        torch.eye(3, dtype=torch.float64).expand(batch, cameras, 3, 3),
        size_px,
        tuple(f"CAM_{i}" for i in range(cameras)),
        torch.zeros(batch, cameras, dtype=torch.int64),
    )


def random_boxes(count: int, seed: int = 0, reach_m: float = 18.0, frame: str = "lidar") -> Boxes3D:
    """Boxes around the origin; the first one's velocity is not known."""
    generator = torch.Generator().manual_seed(seed)
    center = (torch.rand(count, 3, generator=generator) * 2 - 1) * torch.tensor([reach_m, reach_m, 1.0])
    size = torch.rand(count, 3, generator=generator) * 3 + 0.5
    yaw = (torch.rand(count, generator=generator) * 2 - 1) * math.pi
    velocity = torch.randn(count, 2, generator=generator)
    velocity[:1] = math.nan
    label = torch.randint(0, 10, (count,), generator=generator)
    return Boxes3D(center, size, yaw, velocity, label, torch.ones(count), frame)  # type: ignore[arg-type]


def random_batch(batch: int = 2, boxes: int = 7, cameras: int = 6, size_px: tuple[int, int] = (64, 96)) -> Batch:
    """Random images, points and boxes seen by a ring of cameras."""
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.randint(0, 256, (batch, cameras, 3, *size_px), dtype=torch.uint8, generator=generator),
        rig=ring_rig(cameras, size_px, batch),
        global_from_ref=torch.eye(4, dtype=torch.float64).expand(batch, 4, 4),
        tokens=[f"token{i}" for i in range(batch)],
        timestamp_us=torch.zeros(batch, dtype=torch.int64),
        scenes=["scene"] * batch,
        boxes=[random_boxes(boxes, seed=i) for i in range(batch)],
        points=[PointCloud(torch.randn(500, 3, generator=generator) * 10) for _ in range(batch)],
    )
