"""Rotation of the reference frame about the vertical axis: BEVDet's augmentation without resampling anything."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from bev.data.transforms.base import SampleTransform
from bev.geometry.rotations import rotation_about_z
from bev.geometry.transforms import invert_rigid, rigid
from bev.registry import TRANSFORMS
from bev.structures import Sample


@TRANSFORMS.register_module()
class RotateReference(SampleTransform[float]):
    """Express a frame in a reference frame turned by a random angle; images stay as they are.

    Cameras, boxes, points and the pose are re-expressed exactly, so nothing is interpolated (BEVDet, arXiv 2112.11790,
    section 3.3, rotates the grid's contents instead).

    Args:
        max_rad: the angle is drawn from [-max_rad, max_rad].
    """

    def __init__(self, max_rad: float = math.pi) -> None:
        if not 0 <= max_rad <= math.pi:
            raise ValueError(f"RotateReference: max_rad {max_rad} must be in 0..pi")
        self.max_rad = max_rad

    def draw(self, rng: np.random.Generator, sample: Sample) -> float:
        return float(rng.uniform(-self.max_rad, self.max_rad))

    def apply(self, sample: Sample, chance: float) -> Sample:
        new_from_old = rigid(rotation_about_z(torch.tensor(chance, dtype=torch.float64)), torch.zeros(3))
        boxes, points = sample.boxes, sample.points
        return replace(
            sample,
            rig=sample.rig.augment_ref(new_from_old),
            global_from_ref=sample.global_from_ref @ invert_rigid(new_from_old),
            boxes=None if boxes is None else boxes.transform(new_from_old, boxes.frame),
            points=None if points is None else points.transform(new_from_old, points.frame),
        )
