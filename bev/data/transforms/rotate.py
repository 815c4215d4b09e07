"""Rotation of the reference frame about the vertical axis: BEVDet's augmentation without resampling anything."""

from __future__ import annotations

import math

import numpy as np
import torch

from bev.data.transforms.base import SampleTransform, move_reference
from bev.geometry.rotations import rotation_about_z
from bev.geometry.transforms import rigid
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
        return move_reference(sample, new_from_old)
